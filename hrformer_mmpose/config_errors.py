"""Errors of building or first using a config's components, as one line that names the key.

MMEngine builds most of a run from the config, and a wrong value is often noticed only deep in the
code of a component, as any of `CAUSES`. The components on the way are in the frames of the
traceback: nothing has to be recorded while all is well.
"""

import contextlib
import itertools
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from mmengine.logging import MMLogger

from .errors import TRACEBACK, ConfigError, UserError

CAUSES = (
    TypeError, ValueError, AssertionError, LookupError, AttributeError, ArithmeticError,
    RuntimeError, UnboundLocalError,
)  # fmt: skip
# What methods of MMEngine's runner build or set.
KEYS = {
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_test_loop': 'test_cfg',
    'build_model': 'model',
    'wrap_model': 'model_wrapper_cfg',
    'build_optim_wrapper': 'optim_wrapper',
    'build_param_scheduler': 'param_scheduler',
    'scale_lr': 'auto_scale_lr',
    'build_visualizer': 'visualizer',
    'build_logger': 'log_level',
    'build_log_processor': 'log_processor',
    'setup_env': 'env_cfg',
    'set_randomness': 'randomness',
    'register_default_hooks': 'default_hooks',
    'register_custom_hooks': 'custom_hooks',
}
LONGEST = 300  # characters of a message
PARTS_OF_LOOPS = {'build_dataloader': '_dataloader', 'build_evaluator': '_evaluator'}


@contextlib.contextmanager
def blame(cfg: Mapping, place: str = '', when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn an error of building or first using the config's components into a `ConfigError`.

    Args:
        cfg: config of the run.
        place: key to name if the traceback leads to no component.
        when: return whether the config is to blame at that time.

    Raises:
        ConfigError: names the key; the traceback is in the run's log file.
    """
    try:
        yield
    except UserError:
        raise
    except CAUSES as error:
        if not when():
            raise
        raise config_error(key_of(error, cfg, place) or 'the config', error) from error


def config_error(place: str, error: Exception) -> ConfigError:
    """Return the one-line error, and write the traceback to the log file of the run.

    Args:
        place: key in the config, or another name of the component.
        error: error of the component.
    """
    logger = MMLogger.get_current_instance()
    text = ''.join(traceback.format_exception(error))
    record = logger.makeRecord(logger.name, logging.ERROR, '', 0, text, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
    what = f'{type(error).__name__}: {_message(error)}'.removesuffix(': ')
    return ConfigError(f'{place}: {what} ({TRACEBACK}=1 shows the traceback)')


def _message(error: Exception) -> str:
    """Return the message on one line of bounded length, without MMEngine's advice."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in text:  # of a worker of a data loader; its message is at the end
        text = text.strip().splitlines()[-1]
    text = re.sub(r' in <\S+ object at 0x\w+>$', '', text)  # of a hook, which the key names
    text = ' '.join(text.split('. Please check')[0].split())
    return text if len(text) <= LONGEST else text[:LONGEST] + '...'


def key_of(error: BaseException, cfg: Mapping, place: str = '') -> str:
    """Return the key of the innermost component in the traceback, with its class.

    Args:
        error: error with its traceback.
        cfg: config of the run.
        place: key to start from, returned if no component is found.
    """
    components = dict(_components({**cfg}))  # a Config is no Mapping
    for frame in _frames(error):
        name, section = frame.f_code.co_name, place.partition('_')[0]
        if name in KEYS:
            place = KEYS[name]
        elif name in PARTS_OF_LOOPS and section in ('train', 'val', 'test'):
            place = section + PARTS_OF_LOOPS[name]
        sizes = {path: _match(frame, value) for path, value in components.items()}
        sizes = {path: size for path, size in sizes.items() if size}
        if sizes:  # of equal components the one that is nearest to the last place
            place = max(sizes, key=lambda path: (sizes[path], _common(path, place)))
    kind = _class_name(components.get(place, {}))
    return f'{place} ({kind})' if kind else place


def _frames(error: BaseException | None) -> Iterator[FrameType]:
    """Yield the frames of an error, then those of the error that it was raised for."""
    while error is not None:
        yield from (frame for frame, _ in traceback.walk_tb(error.__traceback__))
        error = error.__context__


def _components(tree: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """Yield path and settings of all components: dicts with a `type`."""
    if isinstance(tree, Mapping):
        if path and 'type' in tree:
            yield path, tree
        for key, value in tree.items():
            yield from _components(value, f'{path}.{key}' if path else f'{key}')
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _components(value, f'{path}[{index}]')


def _match(frame: FrameType, component: Mapping) -> int:
    """Return how closely a frame is one of building or running a component; 0 if it is not."""
    local = frame.f_locals
    built = local.get('cfg')
    if frame.f_code.co_name.startswith('build_') and isinstance(built, Mapping):
        # MMEngine may have added defaults. Text compares arrays and NaN, too.
        same = (repr(built.get(key)) == repr(value) for key, value in component.items())
        return all(same) * len(component)
    return int('self' in local and type(local['self']).__name__ == _class_name(component))


def _common(path: str, place: str) -> int:
    """Return the number of leading characters that are equal."""
    pairs = zip(path, place, strict=False)
    return len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])


def _class_name(component: Mapping) -> str:
    """Return the class name in `type`, without its scope."""
    kind = component.get('type', '')
    name = kind.__name__ if isinstance(kind, type) else kind
    return name.rpartition('.')[2] if isinstance(name, str) else ''
