"""Detection of divergence: training stops before a non-finite state is saved."""

import math
from collections.abc import Mapping

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..errors import DivergenceError

# Iterations in a row with a loss that is not finite after which training is given up, though a
# loss scale skips their steps: it has been halved to nothing by then.
PATIENCE = 50


class FiniteHook(Hook):
    """Stop training when loss and weights are no longer finite, before they are saved.

    A single loss or gradient that overflows is not the end: a dynamic loss scale skips its step.
    So the weights are looked at once the loss is not finite, and at the end of each epoch. The loss
    itself costs nothing, as MMEngine logs that of each iteration.

    Args:
        interval: iterations after which several processes agree whether to go on.
    """

    priority = 'LOW'  # behind what exchanges weights for their averages, before CheckpointHook

    def __init__(self, interval: int = 50):
        self.interval = interval
        self._since: int | None = None  # first iteration whose loss was not finite, up to now

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Called by the runner."""
        losses = runner.message_hub.log_scalars.get('train/loss')
        if losses is None or math.isfinite(losses.current()):
            self._since = None
        elif self._since is None:
            self._since = runner.iter + 1
        alone = self._since and get_world_size() == 1
        if alone or self.every_n_train_iters(runner, self.interval):
            self._agree(runner, self._since and self._verdict(runner, runner.iter + 1))

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by the runner."""
        self._agree(runner, self._verdict(runner, runner.iter))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights before they are saved (main process only)."""
        buffers = {name for name, _ in unwrapped_model(runner).named_buffers()}
        for part in ('state_dict', 'ema_state_dict'):
            if name := non_finite(checkpoint.get(part, {}), buffers):
                self._stop(runner, (checkpoint['meta']['iter'], f'{name} is not finite'))

    def _verdict(self, runner: Runner, iteration: int) -> tuple[int, str] | None:
        """Return the iteration and sign of divergence; None if the state is finite."""
        model = unwrapped_model(runner)
        name = non_finite(model.state_dict(), {name for name, _ in model.named_buffers()})
        if self._since and (name or iteration - self._since >= PATIENCE):
            return self._since, 'the loss is not finite'
        return (iteration, f'{name} is not finite') if name else None

    def _agree(self, runner: Runner, verdict: tuple[int, str] | None) -> None:
        if verdicts := [other for other in all_gather_object(verdict) if other]:
            self._stop(runner, min(verdicts))

    def _stop(self, runner: Runner, verdict: tuple[int, str]) -> None:
        last = runner.last_checkpoint()
        advice = f"'{last}' is the last checkpoint: --resume goes on from it" if last else 'Start'
        raise DivergenceError(
            f'training diverged at iteration {verdict[0]}: {verdict[1]}; nothing of it was saved. '
            f'{advice} with a lower optim_wrapper.optimizer.lr'
        )


def non_finite(state: Mapping[str, torch.Tensor], buffers: set[str]) -> str | None:
    """Return the first tensor with NaN or infinity; buffers (masks) may hold infinity."""
    tensors = {
        name.removeprefix('module.'): tensor.detach()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }
    if not tensors:
        return None
    broken = [
        tensor.isnan().any() if name in buffers else ~tensor.isfinite().all()
        for name, tensor in tensors.items()
    ]
    broken = torch.stack(broken).cpu()  # one transfer
    return [*tensors][int(broken.int().argmax())] if broken.any() else None


def unwrapped_model(runner: Runner) -> nn.Module:
    """Return the runner's model without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
