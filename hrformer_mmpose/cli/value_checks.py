"""Values of a config that no class could use."""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError
from .argument_checks import USES, value_at

MINIMA = {  # of integers
    **{f'{use}_dataloader.batch_size': 1 for use in USES},
    **{f'{use}_dataloader.num_workers': 0 for use in USES},
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'default_hooks.visualization.interval': 1,
    'model.head.out_channels': 1,
    'model.head.num_joints': 1,
    'model.head.num_queries': 1,
    'auto_scale_lr.base_batch_size': 1,
    'env_cfg.resource_limit': 1,
    'randomness.seed': 0,
}
CUSTOM_KEYS = 'optim_wrapper.paramwise_cfg.custom_keys'
RATES = ('lr', 'weight_decay')


def check_values(cfg: Mapping) -> None:
    """Check numbers, the log level and `resume`."""
    for path, minimum in MINIMA.items():
        value = value_at(cfg, path)
        if value is not None and not (_is_whole_number(value) and value >= minimum):
            raise ConfigError(f'{path}={value!r} must be a whole number, at least {minimum}')
    for path in ('optim_wrapper', 'param_scheduler', 'model'):
        if nan := next(_nans(cfg.get(path), path), None):
            raise ConfigError(f'{nan} is not a number (NaN)')
    for path in (f'optim_wrapper.optimizer.{rate}' for rate in RATES):
        value = value_at(cfg, path)
        if value is not None and not (_is_number(value) and 0 <= value < math.inf):
            raise ConfigError(f'{path}={value!r} must be a number, at least 0')
    custom = value_at(cfg, CUSTOM_KEYS)
    for name, settings in custom.items() if isinstance(custom, Mapping) else ():
        if not isinstance(settings, Mapping):
            raise ConfigError(f'{CUSTOM_KEYS}.{name} must be a dict, it is {settings!r}')
    level, resume = cfg.get('log_level', 'INFO'), cfg.get('resume', False)
    if not isinstance(getattr(logging, str(level), None), int):
        raise ConfigError(f'log_level={level!r} is not one of DEBUG, INFO, WARNING, ERROR')
    if not isinstance(resume, bool):
        raise ConfigError(f'resume={resume!r} is not True or False; load_from takes a checkpoint')


def _is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole_number(value: Any) -> bool:
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
