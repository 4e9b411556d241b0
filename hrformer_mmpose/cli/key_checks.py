"""Keys of a config that nothing reads, most often misspelt."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import ConfigError
from .argument_checks import value_at

# Keys that are read, by path. Other keys are legal (variables of the config, settings of other
# heads), so that only near misses of these are refused.
READ_KEYS = {
    '': (
        *[name for name in inspect.signature(Runner.__init__).parameters if name != 'self'],
        'activation_checkpointing', 'auto_scale_lr', 'compile', 'custom_imports',
        'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn',
    ),
    'default_hooks': (
        'badcase', 'checkpoint', 'logger', 'param_scheduler', 'runtime_info', 'sampler_seed',
        'timer', 'visualization',
    ),
    'model.test_cfg': (
        'align_corners', 'blur_kernel_size', 'crop_size', 'flip', 'flip_mode', 'flip_test',
        'input_size', 'max_instances', 'max_num_people', 'multiscale_test', 'nms_dist_thr',
        'nms_joints_thr', 'nms_thr', 'output_heatmaps', 'output_keypoint_indices',
        'restore_heatmap_size', 'scales', 'score_thr', 'score_threshold', 'shift_coords',
        'shift_heatmap', 'size_divisor', 'stride',
    ),
    'env_cfg': ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'train_cfg': (
        'begin', 'by_epoch', 'dynamic_intervals', 'max_epochs', 'max_iters', 'type', 'val_begin',
        'val_interval',
    ),
    'auto_scale_lr': ('base_batch_size', 'enable'),
}  # fmt: skip


SIMILAR = 0.8  # difflib's ratio of 'modle' and 'model'


def check_option_names(config: Config, options: Iterable[str]) -> None:
    """Refuse entries of --cfg-options that nothing reads: misspelt ones and variables.

    Args:
        config: as read from its file.
        options: dotted keys.

    Raises:
        ConfigError: names the key, and a similar one or those that have its value.
    """
    for key in options:
        name = key.split('.')[0]
        if name in READ_KEYS['']:
            continue
        if name in config:
            places = [*_places({**config}, name)]
            entries = ', '.join(places[:3]) + (', ...' if places[3:] else '')
            raise ConfigError(
                f'--cfg-options {key}: {name!r} is a variable of the config, and the entries that '
                f'use it have its value already: set those ({entries or "none has its value"})'
            )
        similar = difflib.get_close_matches(name, [*config, *READ_KEYS['']], 1)
        hint = f': did you mean {similar[0]!r}?' if similar else ''
        raise ConfigError(f'--cfg-options {key}: the config has no {name!r}{hint}')


def check_keys(cfg: Mapping) -> None:
    """Refuse keys that are near misses of keys that are read."""
    if 'model' in cfg and 'data' in cfg and 'train_dataloader' not in cfg:
        raise ConfigError(
            'this is a config of MMPose 0.x: take one of configs/, and put what differs '
            '(backbone.extra, paths) into it'
        )
    for path, read_keys in READ_KEYS.items():
        keys = value_at(cfg, path)
        for key in keys if isinstance(keys, Mapping) else ():
            intended = _intended_key(key, read_keys)
            if intended and (path or not _is_variable(cfg, key)):
                where = f'{path}.{key}' if path else key
                raise ConfigError(f'{where} has no effect: did you mean {intended!r}?')
    if 'model' not in cfg:
        raise ConfigError('the config has no model')


def _intended_key(key: str, read_keys: tuple[str, ...]) -> str | None:
    """Return the key that `key` misspells, if any; `checkpoint_2` and `coco_val_cfg` do not."""
    similar = difflib.get_close_matches(key, read_keys, 1, SIMILAR)
    if not similar or key in read_keys or re.search(rf'(^|_){similar[0]}(_|\d*$)', key):
        return None
    return similar[0]


def _is_variable(cfg: Mapping, key: str) -> bool:
    """Return whether the config uses the value elsewhere, so that the key is a variable."""
    return any(path.split('.')[0] != key for path, value in _entries(cfg) if value == cfg[key])


def _places(cfg: Mapping, variable: str) -> Iterator[str]:
    """Yield the paths of the entries that are read and have the value of a variable.

    Numbers and truth values may be equal by chance: those count under the variable's name only.
    """
    by_name = isinstance(cfg[variable], int | float | None)
    for path, value in _entries(cfg):
        is_read = path.split('.')[0] in READ_KEYS['']
        if (
            is_read
            and value == cfg[variable]
            and (not by_name or path.rpartition('.')[2] == variable)
        ):
            yield path


def _entries(tree: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of all entries, those of lists by their index."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Mapping):
        pairs = tree.items()
    elif isinstance(tree, list | tuple):
        pairs = enumerate(tree)
    for key, value in pairs:
        inner = f'{path}.{key}' if path else str(key)
        yield inner, value
        yield from _entries(value, inner)
