"""Comparison of a config's arguments with the signatures of the classes that they build.

Python ignores annotations, so that a text where a number is needed fails within the class, or at
its first use, in terms of its code.
"""

import collections.abc
import difflib
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmengine.registry import LOG_PROCESSORS, PARAM_SCHEDULERS, WEIGHT_INITIALIZERS, Registry
from mmengine.runner import EpochBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from mmpose import registry
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from ..errors import ConfigError

USES = ('train', 'val', 'test')
REGISTRIES: dict[str, Registry] = {  # by the key whose value is built
    **dict.fromkeys(('model', 'backbone', 'neck', 'head', 'loss'), registry.MODELS),
    'data_preprocessor': registry.MODELS,
    **dict.fromkeys(('decoder', 'encoder'), registry.KEYPOINT_CODECS),
    **dict.fromkeys(('dataset', 'datasets'), registry.DATASETS),
    **dict.fromkeys(('default_hooks', 'custom_hooks'), registry.HOOKS),
    **{f'{use}_evaluator': registry.METRICS for use in USES},
    **{f'{use}_cfg': registry.LOOPS for use in USES},
    'pipeline': registry.TRANSFORMS,
    'sampler': registry.DATA_SAMPLERS,
    'optim_wrapper': registry.OPTIM_WRAPPERS,
    'optimizer': registry.OPTIMIZERS,
    'param_scheduler': PARAM_SCHEDULERS,
    'init_cfg': WEIGHT_INITIALIZERS,
    'visualizer': registry.VISUALIZERS,
    'vis_backends': registry.VISBACKENDS,
    'log_processor': LOG_PROCESSORS,
}
FUNCTIONS: dict[str, Callable] = {  # by path, what is called where no `type` names it
    **{f'{use}_dataloader': DataLoader for use in USES},
    'train_cfg': EpochBasedTrainLoop,
    'val_cfg': ValLoop,
    'test_cfg': TestLoop,
    'log_processor': LogProcessor,
    'randomness': Runner.set_randomness,
    'env_cfg.mp_cfg': set_multi_processing,
    'optim_wrapper.clip_grad': clip_grad_norm_,
}
READ_BY_BUILDERS = {  # arguments that do not reach the class
    '_scope_', 'type', 'priority', 'convert_to_iter_based', 'constructor', 'paramwise_cfg',
    'num_batch_per_epoch', 'by_epoch', 'override',
}  # fmt: skip
OTHERS: dict[str, Any] = {  # values that reach no signature
    'activation_checkpointing': list | None,
    'compile': bool | dict,
    'env_cfg.cudnn_benchmark': bool,
    'env_cfg.dist_cfg': dict,
    'env_cfg.mp_cfg.mp_start_method': Literal['fork', 'spawn', 'forkserver'],
    'find_unused_parameters': bool,
    'log_processor.window_size': int,
    'model.test_cfg.crop_size': Sequence[int] | None,
    'model.test_cfg.flip': bool,
    'model.test_cfg.flip_mode': Literal['heatmap', 'udp_combined', 'offset'],
    'model.test_cfg.flip_test': bool,
    'model.test_cfg.scales': Sequence[float],
    'model.test_cfg.size_divisor': int,
    'model.test_cfg.stride': Sequence[int] | None,
    'model_wrapper_cfg': dict | None,
    'optim_wrapper.paramwise_cfg.custom_keys': dict | None,
    'runner_type': str | type,
    'sync_bn': str | None,
}


def check_arguments(cfg: Mapping, uses: Sequence[str]) -> None:
    """Check the names and types of all arguments in a config.

    Args:
        cfg: the config.
        uses: loops that will run; the keys of others are not checked.

    Raises:
        ConfigError: a class has no argument of a name, or a value has a wrong type; the message
            names the key.
    """
    for path, hint in OTHERS.items():
        _check_value(path, value_at(cfg, path), hint)
    unused = {use for use in USES if use not in uses}
    cfg = {key: value for key, value in cfg.items() if key.partition('_')[0] not in unused}
    hints, _ = _parameters(Runner)
    for key in cfg.keys() & hints.keys():
        _check_value(key, cfg[key], hints[key])
    for path, function in FUNCTIONS.items():
        settings = value_at(cfg, path)
        is_default = isinstance(settings, Mapping) and 'type' not in settings
        if is_default and settings.get('by_epoch', True):
            _check_call(path, settings, function)
    if cfg.get('default_scope', 'mmpose') == 'mmpose':
        for key, value in cfg.items():
            _check_calls(key, value, REGISTRIES.get(key))


def value_at(cfg: Mapping, path: str) -> Any:
    """Return the value at a dotted path; None if there is none."""
    value: Any = cfg
    for key in filter(None, path.split('.')):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_calls(path: str, value: Any, classes: Registry | None) -> None:
    """Check a value that is built from a registry, and all that is built for it."""
    if isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _check_calls(f'{path}[{index}]', part, classes)
    if not isinstance(value, Mapping):
        return
    kind = value.get('type')
    if classes is not None and kind is not None:
        if not (isinstance(kind, str) or callable(kind)):
            raise ConfigError(f'{path}.type={kind!r} must be the name of a class')
        target = classes.get(kind) if isinstance(kind, str) else kind
        if target is not None:  # else the registry reports it
            _check_call(path, value, target)
    for key, part in value.items():
        inherited = classes if kind is None else None  # by name, as in default_hooks
        _check_calls(f'{path}.{key}', part, REGISTRIES.get(key, inherited))


def _check_call(path: str, settings: Mapping, target: Callable) -> None:
    hints, takes_others = _parameters(target)
    for key, value in settings.items():
        if key in hints:
            _check_value(f'{path}.{key}', value, hints[key], target.__name__)
        elif not takes_others and key not in READ_BY_BUILDERS:
            similar = difflib.get_close_matches(key, hints, 1)
            hint = f': did you mean {similar[0]!r}?' if similar else ''
            raise ConfigError(f'{path}: {target.__name__} has no argument {key!r}{hint}')


def _check_value(path: str, value: Any, hint: Any, owner: str = '') -> None:
    if not _fits(value, hint):
        kind = inspect.formatannotation(hint).replace('typing.', '').replace('collections.abc.', '')
        raise ConfigError(
            f'{path}={value!r} must be of type {kind}' + (f' ({owner})' * bool(owner))
        )


@functools.cache
def _parameters(target: Callable) -> tuple[dict[str, Any], bool]:
    """Return the annotations of all arguments, and whether others are taken, too.

    Arguments that a class passes on to its base class are those of the base class.
    """
    hints: dict[str, Any] = {}
    takes_others = True
    for owner in target.__mro__[:-1] if isinstance(target, type) else [target]:
        function = vars(owner).get('__init__') if isinstance(target, type) else owner
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        names = {parameter.name for parameter in parameters if parameter.kind not in _VARIADIC}
        hints = {**dict.fromkeys(names, Any), **_annotations(function, names), **hints}
        takes_others = any(parameter.kind is _VARIADIC[1] for parameter in parameters)
        if not takes_others:
            break
    return hints, takes_others


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _annotations(function: Callable, names: set[str]) -> dict[str, Any]:
    try:
        hints = get_type_hints(function, localns=vars(collections.abc))
    except (NameError, TypeError):  # of names that only type checkers import
        hints = {}
    return {name: hint for name, hint in hints.items() if name in names}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether plain data fits an annotation; all else, and None, does.

    MMPose's annotations say int for a float and dict for a list of dicts.
    """
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in args)
    if value is None or not isinstance(value, bool | int | float | str | list | tuple | Mapping):
        return True
    if origin is Literal:
        return value in args
    if origin is types.NoneType:
        return False
    if not isinstance(origin, type) or origin in (Any, object):
        return True
    if origin in (int, float):
        return isinstance(value, int | float) and (origin is float or math.isfinite(value))
    if origin is bool:
        return value in (True, False)
    if origin is str:
        return isinstance(value, str)
    if issubclass(origin, Mapping):
        parts = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(part, Mapping) for part in parts)
    if issubclass(origin, Iterable) and origin.__module__ in ('builtins', 'collections.abc'):
        return isinstance(value, list | tuple) and all(
            not args or any(_fits(item, part) for part in args) for item in value
        )
    return not isinstance(value, bool | int | float)
