"""Checks of a training state from a file, before anything of it is restored.

The reader has refused code; what it returns is plain data, with any value in any place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import WeightsError
from .training_state import history_parts

HUB = ('log_scalars', 'runtime_info', 'resumed_keys')


def check_counters(content: Mapping, path: str) -> None:
    """Check counters and message hub.

    Args:
        content: a training state, with or without the data of its tensors.
        path: the file, for the message.

    Raises:
        WeightsError: an entry is not what it must be; the message names it.
    """
    _raise_first(_counter_problems(content), path)


def check_averages(content: Mapping, path: str) -> None:
    """Check that moving averages, if there are any, are those of the weights.

    Raises:
        WeightsError: see `check_counters`.
    """
    averages, prefix = content.get('ema_state_dict', {}), 'module.'
    names = {prefix + name: value.shape for name, value in content['state_dict'].items()}
    fits = isinstance(averages, Mapping) and all(
        isinstance(value, torch.Tensor) and (names.get(name) == value.shape or value.numel() == 1)
        for name, value in averages.items()
    )
    if not fits:
        raise WeightsError(f"the ema_state_dict in '{path}' does not fit its weights")


def check_optimizer(content: Mapping, groups: list[dict], path: str) -> None:
    """Check the state of the optimizer.

    Args:
        content: see `check_counters`.
        groups: parameter groups of the optimizer that the config builds.
        path: the file, for the message.

    Raises:
        WeightsError: see `check_counters`.
    """
    _raise_first(_optimizer_problems(content['optimizer'], groups), path)


def check_schedules(states: Any, schedules: list[dict], path: str) -> None:
    """Check the states of schedules.

    Args:
        states: from the file.
        schedules: states of the schedules that the config builds.
        path: the file, for the message.

    Raises:
        WeightsError: see `check_counters`.
    """
    _raise_first(_schedule_problems(states, schedules), path)


def _raise_first(problems: Iterator[str], path: str) -> None:
    if (problem := next(problems, None)) is not None:
        raise WeightsError(f"the training state in '{path}' is damaged: {problem}")


def _counter_problems(content: Mapping) -> Iterator[str]:
    meta, hub = content['meta'], content['message_hub']
    for name in ('meta', 'optimizer', 'message_hub'):
        if not isinstance(content[name], Mapping):
            yield f'{name} must be a dict'
    for name in HUB:
        if not (isinstance(hub.get(name), Mapping) and all(isinstance(k, str) for k in hub[name])):
            yield f'message_hub.{name} must be a dict of names'
    for key in ('epoch', 'iter'):
        if not _is_count(meta.get(key)):
            yield f'meta.{key} is {_short(meta.get(key))}'
    seed = meta.get('seed')
    if seed is not None and not (_is_count(seed) and seed < 2**32):
        yield f'meta.seed is {_short(seed)}'
    for name, value in hub['log_scalars'].items():
        if (parts := history_parts(value)) is not None and not _is_history(*parts):
            yield f'message_hub.log_scalars.{name} is no list of values with their counts'
    for name, value in hub['runtime_info'].items():
        if value is not None and not _is_runtime_info(name, value):
            yield f'message_hub.runtime_info.{name} is {_short(value)}'
    if not all(isinstance(value, bool) for value in hub['resumed_keys'].values()):
        yield 'message_hub.resumed_keys holds more than True and False'


def _is_history(values: Any, counts: Any, max_length: Any) -> bool:
    arrays = all(isinstance(part, torch.Tensor | np.ndarray) for part in (values, counts))
    if not (arrays and values.ndim == 1 and values.shape == counts.shape):
        return False
    kinds = {
        torch.empty(0, dtype=part.dtype).numpy().dtype.kind
        if isinstance(part, torch.Tensor)
        else part.dtype.kind
        for part in (values, counts)
    }
    return kinds <= set('fiu') and _is_count(max_length) and max_length > 0


def _is_runtime_info(name: str, value: Any) -> bool:
    """Check the entries that are read when a run is resumed."""
    if name == 'epoch_begun':
        keys = ('epoch', 'iter', 'batches')
        return isinstance(value, Mapping) and all(_is_count(value.get(key)) for key in keys)
    if name == 'epoch_validated':
        return _is_count(value)
    if name in ('keep_ckpt_ids', 'replaced_best'):
        kind = int if name == 'keep_ckpt_ids' else str
        return isinstance(value, list) and all(isinstance(item, kind) for item in value)
    if name.startswith(('best_ckpt', 'last_ckpt')):
        return isinstance(value, str)
    return not name.startswith('best_score') or isinstance(value, int | float)


def _optimizer_problems(state: Mapping, groups: list[dict]) -> Iterator[str]:
    if not isinstance(state.get('state'), Mapping):
        yield 'optimizer.state must be a dict'
    if not isinstance(state.get('param_groups'), list):
        yield 'optimizer.param_groups must be a list'
    saved = {f'param_groups[{i}]': group for i, group in enumerate(state['param_groups'])}
    if state.get('base_param_settings') is not None:
        saved['base_param_settings'] = state['base_param_settings']
    for (place, group), ours in zip(saved.items(), [*groups, *[{}] * len(saved)], strict=False):
        if not isinstance(group, Mapping):
            yield f'optimizer.{place} must be a dict'
        for key in group.keys() - {'params'}:
            expected = ours.get(key, ours.get(str(key).removeprefix('initial_')))
            if not _is_like(group[key], expected):
                yield f'optimizer.{place}.{key} is {_short(group[key])}'
    parameters: dict[Any, torch.Tensor] = {}
    for index, (group, ours) in enumerate(zip(state['param_groups'], groups, strict=False)):
        indices = group.get('params')
        if not (isinstance(indices, list) and all(map(_is_count, indices))):
            yield f'optimizer.param_groups[{index}].params must be a list of whole numbers'
        parameters.update(zip(indices, ours['params'], strict=False))
    if len(saved) == len(groups):  # else the config is another one, which `Settings` reports
        yield from _moment_problems(state['state'], parameters)


def _moment_problems(state: Mapping, parameters: Mapping[Any, torch.Tensor]) -> Iterator[str]:
    """Compare states with each other and their tensors with the parameters."""
    forms = [_form(values) for values in state.values()]
    usual = max(forms, key=forms.count, default={})
    for (index, values), form in zip(state.items(), forms, strict=True):
        place = f'optimizer.state[{index}]'
        if not usual or form.keys() != usual.keys():
            yield f'{place} is not like the states of the other parameters'
        for name, kind in form.items():
            shape = parameters[index].shape if index in parameters else None
            if kind != usual[name] or (kind == 'Tensor' and values[name].shape != shape):
                yield f'{place}.{name} does not fit its parameter'


def _form(values: Any) -> dict[Any, str]:
    """Return the kind of each entry of a parameter's state: 'number' or its type."""
    return {
        name: 'number'
        if _is_number(value) or getattr(value, 'shape', None) == ()
        else type(value).__name__
        for name, value in (values.items() if isinstance(values, Mapping) else ())
    }


def _schedule_problems(states: Any, schedules: list[dict]) -> Iterator[str]:
    if not isinstance(states, list):
        yield 'param_schedulers must be a list'
    for index, state in enumerate(states):
        if not isinstance(state, Mapping):
            yield f'param_schedulers[{index}] must be a dict'
    for index, (state, ours) in enumerate(zip(states, schedules, strict=False)):
        for key in state.keys() & ours.keys():
            if not _is_like(state[key], ours[key]):
                yield f'param_schedulers[{index}].{key} is {_short(state[key])}'


def _is_like(value: Any, ours: Any) -> bool:
    """Return whether a value has the type and the length of the config's."""
    if ours is None or value is None or callable(ours):
        return ours is None or (value is None and not isinstance(ours, Sequence | Mapping))
    if _is_number(ours) or isinstance(ours, bool):
        return isinstance(value, int | float)
    if isinstance(ours, list | tuple):
        same = isinstance(value, list | tuple) and len(value) == len(ours)
        return same and all(map(_is_like, value, ours))
    return isinstance(value, Mapping if isinstance(ours, Mapping) else type(ours))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and 0 <= value < 2**62


def _short(value: Any) -> str:
    return repr(value).splitlines()[0][:60] if not isinstance(value, torch.Tensor) else 'a tensor'
