"""Comparison of a config's settings with the state in a checkpoint."""

from collections.abc import Mapping
from typing import Any

from mmengine.optim import OptimWrapper

from ..errors import ConfigError
from .state_checks import check_optimizer, check_schedules

# Of an optimizer's groups: how a step is computed, not what. They differ between PyTorch versions.
IMPLEMENTATION = {
    'params', 'foreach', 'fused', 'capturable', 'differentiable', 'maximize',
    'decoupled_weight_decay',
}  # fmt: skip
# Of a schedule: where it is.
POSITION = {
    'base_values', 'last_step', '_global_step', '_last_value', 'best', 'num_bad_epochs',
    'cooldown_counter', 'verbose',
}  # fmt: skip
ADVICE = 'set it back, or use load_from instead of --resume to start from the weights alone'


class Settings:
    """Settings of optimizer and schedules in a config, which resuming must keep.

    The optimizer's numbers (learning rate, weight decay, betas, ...) take effect: `apply`. What
    does not fit the state in the file is refused: another optimizer, other groups of parameters,
    another schedule. All else is no part of the state and is as the config says.

    Args:
        wrapper: as built from the config.
        schedulers: likewise; None if there are none.

    Optimizers by name (MMEngine's `OptimWrapperDict`) are left as MMEngine resumes them.
    """

    def __init__(self, wrapper: OptimWrapper, schedulers: Any):
        self._applies = isinstance(wrapper, OptimWrapper)
        if self._applies:
            self._groups = [dict(group) for group in wrapper.param_groups]
            self._schedules = [dict(schedule.state_dict()) for schedule in schedulers or ()]

    def check(self, content: dict, path: str) -> None:
        """Compare with the content of a checkpoint.

        Raises:
            ConfigError: the config's optimizer or schedule is another one.
            WeightsError: the state of one of them is damaged.
        """
        if not self._applies:
            return
        check_optimizer(content, self._groups, path)
        state = content['optimizer']
        base = state.get('base_param_settings')
        groups = [*state['param_groups'], *([base] if base else [])]
        if len(groups) != len(self._groups):
            raise ConfigError(
                f"optim_wrapper: it makes {len(self._groups)} groups of parameters, and '{path}' "
                f'has {len(groups)} (paramwise_cfg, or frozen parts): {ADVICE}'
            )
        for now, before in zip(self._groups, groups, strict=True):
            ours, theirs = (
                {key for key in group if not key.startswith('initial_')} - IMPLEMENTATION
                for group in (now, before)
            )
            if ours != theirs:
                raise ConfigError(
                    f'optim_wrapper.optimizer: its settings are {", ".join(sorted(ours))}, and '
                    f"'{path}' is of an optimizer with {', '.join(sorted(theirs))}: {ADVICE}"
                )
        self._check_schedules(content.get('param_schedulers') or [], path)

    def _check_schedules(self, before: list[dict], path: str) -> None:
        check_schedules(before, self._schedules, path)
        if len(before) != len(self._schedules):
            raise ConfigError(
                f'param_scheduler: the number of schedules is {len(self._schedules)}, and in '
                f"'{path}' {len(before)}: {ADVICE}"
            )
        for index, (now, then) in enumerate(zip(self._schedules, before, strict=True)):
            names = [key for key in {**now, **then} if not callable(now.get(key))]
            differ = [key for key in names if key not in POSITION and now.get(key) != then.get(key)]
            if differ == ['end'] and then.get('_global_step', 0) < min(now['end'], then['end']):
                continue
            if differ:
                key = min(differ)
                raise ConfigError(
                    f"param_scheduler[{index}]: {key} is {_text(now.get(key))}, and in '{path}' "
                    f'{_text(then.get(key))}: {ADVICE}'
                )

    def apply(self, wrapper: OptimWrapper, schedulers: Any) -> list[str]:
        """Restore the config's numbers in an optimizer after loading its state; return log lines.

        A scheduled number (the learning rate) goes on where the schedule is, in proportion.
        """
        if not self._applies:
            return []
        schedulers = schedulers or []
        scheduled = {schedule.param_name for schedule in schedulers}
        if 'momentum' in scheduled:  # MMEngine's name also for the first of Adam's betas
            scheduled.add('betas')
        changed: dict[str, str] = {}
        for now, group in zip(self._groups, wrapper.param_groups, strict=True):
            for key in now.keys() - scheduled - IMPLEMENTATION:
                before, name = group.get(key), key.removeprefix('initial_')
                if _equal(now[key], before):
                    continue
                changed[name] = f'{name}: {_text(before)} before, {_text(now[key])} from here on'
                if name in scheduled:
                    group[name] = group[name] * now[key] / before if before else now[key]
                group[key] = now[key]
            if 'betas' in now.keys() & scheduled:
                betas = group['momentum'], *now['betas'][1:]
                if betas[1:] != tuple(group['betas'][1:]):
                    changed['betas'] = f'betas: {group["betas"]} before, {betas} from here on'
                group['betas'] = betas
        for schedule, then in zip(schedulers, self._schedules, strict=True):
            schedule.end = then['end']
            if changed and 'base_values' in then:
                schedule.base_values = then['base_values']
        return [*changed.values()]


def _equal(one: Any, other: Any) -> bool:
    """Compare values, treating tuples and lists alike."""
    return _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # milestones, counted
        return str(sorted(value))
    return 'not set' if value is None else str(value)
