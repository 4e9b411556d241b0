"""Checks of a merged config before anything is built from it.

They catch mistakes that MMEngine ignores (a misspelt key), reports late (the name of a metric,
after the first epoch), or reports in terms of its own code.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError
from .argument_checks import check_arguments, value_at
from .key_checks import check_keys
from .keypoint_checks import check_keypoints
from .value_checks import check_values

REQUIRED_KEYS = {
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
MAX_WORKERS = 1024  # processes of a data loader
LOOPS = ('EpochBasedTrainLoop', 'IterBasedTrainLoop')
DICTS = (
    *(key for keys in REQUIRED_KEYS.values() for key in keys[:2]),
    'auto_scale_lr', 'default_hooks', 'env_cfg', 'env_cfg.mp_cfg', 'log_processor',
    'model.head', 'model.test_cfg', 'optim_wrapper', 'randomness',
)  # fmt: skip
TEXTS = ('default_scope', 'experiment_name', 'load_from', 'work_dir')


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
    check_keys(cfg)
    uses = [use for use in REQUIRED_KEYS if _is_complete(cfg, use, use in uses) and use in uses]
    for path, value in _buildable(cfg, uses):
        _check_type(path, value)
    check_values(cfg)
    for use in uses:
        _check_loader(cfg, f'{use}_dataloader')
    if 'train' in uses:
        _check_schedule(cfg['train_cfg'], cfg['optim_wrapper'])
    check_arguments(cfg, uses)
    check_keypoints(cfg, uses)


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
    optim_wrapper = cfg.get('optim_wrapper') or {}
    several_optimizers = 'constructor' in optim_wrapper and 'optimizer' not in optim_wrapper
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
    if 'type' in train_cfg and 'by_epoch' in train_cfg:
        raise ConfigError('train_cfg has both type and by_epoch: leave one of them out')
    loop = str(train_cfg.get('type', LOOPS[0])).rpartition('.')[2]
    needed = 'max_epochs' if loop == LOOPS[0] and train_cfg.get('by_epoch', True) else 'max_iters'
    if loop in LOOPS and train_cfg.get(needed) is None:
        raise ConfigError(f'train_cfg has no {needed}, the length of training')
    optimizer, paramwise = (optim_wrapper.get(key) for key in ('optimizer', 'paramwise_cfg'))
    if 'decay_mult' in str(paramwise) and 'weight_decay' not in (optimizer or {}):
        raise ConfigError('optim_wrapper.paramwise_cfg changes weight_decay: set it in optimizer')
