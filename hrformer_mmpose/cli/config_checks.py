"""Checks of a merged config before anything is built from it.

They catch mistakes that MMEngine ignores (a misspelt key), reports late (the name of a metric,
after the first epoch), or reports in terms of its own code.
"""

import difflib
import inspect
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import ConfigError
from .keypoint_checks import check_keypoints

# Keys that are read, by path. Other keys are legal (variables of the config, settings of other
# heads), so that only near misses of these are refused.
READ_KEYS = {
    '': (
        *[name for name in inspect.signature(Runner.__init__).parameters if name != 'self'],
        'activation_checkpointing', 'compile', 'custom_imports', 'find_unused_parameters',
        'model_wrapper_cfg', 'runner_type', 'sync_bn',
    ),
    'default_hooks': (
        'badcase', 'checkpoint', 'logger', 'param_scheduler', 'runtime_info', 'sampler_seed',
        'timer', 'visualization',
    ),
    'model.test_cfg': (
        'align_corners', 'blur_kernel_size', 'flip_mode', 'flip_test', 'input_size',
        'max_instances', 'max_num_people', 'multiscale_test', 'nms_dist_thr', 'nms_joints_thr',
        'nms_thr', 'output_heatmaps', 'output_keypoint_indices', 'restore_heatmap_size',
        'score_thr', 'score_threshold', 'shift_coords', 'shift_heatmap',
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
REQUIRED_KEYS = {
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
MINIMA = {  # of integers
    **{f'{use}_dataloader.batch_size': 1 for use in REQUIRED_KEYS},
    **{f'{use}_dataloader.num_workers': 0 for use in REQUIRED_KEYS},
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'default_hooks.visualization.interval': 1,
    'model.head.out_channels': 1,
    'randomness.seed': 0,
}
LOOPS = ('EpochBasedTrainLoop', 'IterBasedTrainLoop')
DICTS = (
    *(key for keys in REQUIRED_KEYS.values() for key in keys[:2]),
    'auto_scale_lr', 'default_hooks', 'env_cfg', 'env_cfg.mp_cfg', 'log_processor',
    'model.head', 'model.test_cfg', 'optim_wrapper', 'randomness',
)  # fmt: skip
TEXTS = ('default_scope', 'experiment_name', 'load_from', 'work_dir')
MAX_WORKERS = 1024  # processes of a data loader
RATES = ('lr', 'weight_decay')


def check(config: Config, uses: Iterable[str] = ('train', 'val')) -> None:
    """Check that a config can run and that all its keys have an effect.

    Args:
        config: config with the command line merged into it.
        uses: loops that will run: 'train', 'val' (skipped if the config has none), 'test'.

    Raises:
        ConfigError: a key is wrong; the message names it.
    """
    cfg = {**config}
    for key in DICTS:
        if not isinstance(value := value_at(cfg, key) or {}, Mapping):
            raise ConfigError(f'{key} must be a dict, it is {value!r}')
    for key in TEXTS:
        if (value := cfg.get(key)) is not None and not (isinstance(value, str) and value):
            raise ConfigError(f'{key}={value!r} must be a text that is not empty')
    _check_keys(cfg)
    uses = [use for use in REQUIRED_KEYS if _is_complete(cfg, use, use in uses) and use in uses]
    for path, value in _buildable(cfg, uses):
        _check_type(path, value)
    _check_values(cfg)
    for use in uses:
        _check_loader(cfg, f'{use}_dataloader')
    if 'train' in uses:
        _check_schedule(cfg['train_cfg'], cfg['optim_wrapper'])
    check_keypoints(cfg, uses)


def check_option_names(config: Config, options: Iterable[str]) -> None:
    """Refuse entries of --cfg-options that nothing reads.

    Args:
        config: as read from its file.
        options: dotted keys.

    Raises:
        ConfigError: names the key and a similar one.
    """
    for key in options:
        name = key.split('.')[0]
        if name not in config and name not in READ_KEYS['']:
            similar = difflib.get_close_matches(name, [*config, *READ_KEYS['']], 1)
            hint = f': did you mean {similar[0]!r}?' if similar else ''
            raise ConfigError(f'--cfg-options {key}: the config has no {name!r}{hint}')


def value_at(cfg: Mapping, path: str) -> Any:
    """Return the value at a dotted path; None if there is none."""
    value: Any = cfg
    for key in filter(None, path.split('.')):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_keys(cfg: Mapping) -> None:
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

    def holds(tree: Any) -> bool:
        if tree == cfg[key]:
            return True
        parts = tree.values() if isinstance(tree, Mapping) else tree
        return isinstance(tree, Mapping | list | tuple) and any(holds(part) for part in parts)

    return any(holds(value) for other, value in cfg.items() if other != key)


def _is_complete(cfg: Mapping, use: str, needed: bool) -> bool:
    """Return whether the config has all required keys of a loop; it may have none of them."""
    missing = [key for key in REQUIRED_KEYS[use] if cfg.get(key) is None]
    present = [key for key in REQUIRED_KEYS[use] if key not in missing]
    if missing and present:
        raise ConfigError(f'the config has {" and ".join(present)}, but no {missing[0]}')
    if missing and needed and use != 'val':
        raise ConfigError(f'the config has no {", ".join(missing)}: nothing to {use} with')
    return not missing


def _buildable(cfg: Mapping, uses: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each entry that is built from its `type`."""
    yield 'model', cfg['model']
    optional = ['visualizer']
    optional += [f'model.{part}' for part in ('data_preprocessor', 'backbone', 'neck', 'head')]
    optional += [f'default_hooks.{name}' for name in cfg.get('default_hooks') or ()]
    yield from ((path, value) for path in optional if (value := value_at(cfg, path)) is not None)
    for path in ('custom_hooks', 'vis_backends'):
        yield from _elements(path, cfg.get(path) or [])
    several_optimizers = 'constructor' in (cfg.get('optim_wrapper') or {})
    if not several_optimizers:
        yield from _one_or_more('param_scheduler', cfg.get('param_scheduler') or [])
    if 'train' in uses and not several_optimizers:
        yield 'optim_wrapper.optimizer', cfg['optim_wrapper'].get('optimizer')
    for use in uses:
        loader = cfg[f'{use}_dataloader']
        if 'batch_sampler' not in loader:
            yield f'{use}_dataloader.sampler', loader.get('sampler')
        yield from _data_sets(f'{use}_dataloader.dataset', loader.get('dataset'))
        if use != 'train':
            yield from _one_or_more(f'{use}_evaluator', cfg[f'{use}_evaluator'])


def _elements(path: str, values: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(values, list | tuple):
        raise ConfigError(f'{path} must be a list, it is {values!r}')
    yield from ((f'{path}[{index}]', value) for index, value in enumerate(values))


def _one_or_more(path: str, values: Any) -> Iterator[tuple[str, Any]]:
    yield from _elements(path, values) if isinstance(values, list | tuple) else [(path, values)]


def _data_sets(path: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    """Yield a data set, the data sets that it wraps, and their transforms."""
    yield path, dataset
    if isinstance(dataset, Mapping):
        yield from _elements(f'{path}.pipeline', dataset.get('pipeline') or [])
        if 'dataset' in dataset:
            yield from _data_sets(f'{path}.dataset', dataset['dataset'])
        for inner, part in _elements(f'{path}.datasets', dataset.get('datasets') or []):
            yield from _data_sets(inner, part)


def _check_type(path: str, value: Any) -> None:
    if value is None or isinstance(value, str | int | float | list | tuple):
        raise ConfigError(f'{path} must be a dict with a `type`, it is {value!r}')
    if isinstance(value, Mapping) and value.get('type') is None:
        keys = f' (it has {", ".join(map(str, value))})' if value else ''
        raise ConfigError(f'{path} has no `type`, which names the class to build{keys}')


def _check_values(cfg: Mapping) -> None:
    for path, minimum in MINIMA.items():
        value = value_at(cfg, path)
        if value is not None and not (is_whole_number(value) and value >= minimum):
            raise ConfigError(f'{path}={value!r} must be a whole number, at least {minimum}')
    for path in ('optim_wrapper', 'param_scheduler', 'model'):
        if nan := next(_nans(cfg.get(path), path), None):
            raise ConfigError(f'{nan} is not a number (NaN)')
    for path in (f'optim_wrapper.optimizer.{rate}' for rate in RATES):
        value = value_at(cfg, path)
        if value is not None and not (is_number(value) and 0 <= value < math.inf):
            raise ConfigError(f'{path}={value!r} must be a number, at least 0')
    level, resume = cfg.get('log_level', 'INFO'), cfg.get('resume', False)
    if not isinstance(getattr(logging, str(level), None), int):
        raise ConfigError(f'log_level={level!r} is not one of DEBUG, INFO, WARNING, ERROR')
    if not isinstance(resume, bool):
        raise ConfigError(f'resume={resume!r} is not True or False; load_from takes a checkpoint')


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole_number(value: Any) -> bool:
    """Return whether a value is an int, but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _nans(value: Any, path: str) -> Iterator[str]:
    """Yield the paths of the numbers that are NaN."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _nans(part, f'{path}.{key}')
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _nans(part, f'{path}[{index}]')
    elif isinstance(value, float) and math.isnan(value):
        yield path


def _check_loader(cfg: Mapping, name: str) -> None:
    loader = cfg[name]
    if loader.get('batch_size') is None and 'batch_sampler' not in loader:
        raise ConfigError(f'{name} has no batch_size')
    if (workers := loader.get('num_workers') or 0) > MAX_WORKERS:
        raise ConfigError(f'{name}.num_workers={workers}: there can be {MAX_WORKERS} at most')
    for key in ('persistent_workers', 'prefetch_factor'):
        if loader.get(key) and not loader.get('num_workers'):
            raise ConfigError(f'{name}.{key}={loader[key]} needs num_workers of at least 1')


def _check_schedule(train_cfg: Mapping, optim_wrapper: Mapping) -> None:
    loop = str(train_cfg.get('type', LOOPS[0])).rpartition('.')[2]
    needed = 'max_epochs' if loop == LOOPS[0] and train_cfg.get('by_epoch', True) else 'max_iters'
    if loop in LOOPS and train_cfg.get(needed) is None:
        raise ConfigError(f'train_cfg has no {needed}, the length of training')
    optimizer, paramwise = (optim_wrapper.get(key) for key in ('optimizer', 'paramwise_cfg'))
    if 'decay_mult' in str(paramwise) and 'weight_decay' not in (optimizer or {}):
        raise ConfigError('optim_wrapper.paramwise_cfg changes weight_decay: set it in optimizer')
