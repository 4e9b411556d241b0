"""Epoch-based training that can resume within an epoch."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from mmengine.dist import get_rank
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from torch import nn
from torch.utils.data import Sampler

from ..datasets.sampler import DefaultSampler
from ..registry import LOOPS
from ..seeding import seed_all
from .work_dir import log_entries

# In the message hub: the epoch that was begun, at which iteration, of how many batches; and the
# epoch that was validated last.
_PLACE = 'epoch_begun'
_VALIDATED = 'epoch_validated'  # MMEngine prints what begins with val


@LOOPS.register_module()
class EpochBasedTrainLoop(_EpochBasedTrainLoop):
    """Training loop that a resumed run continues with the same samples and random numbers.

    A run that stopped within an epoch goes on with the next batch of it; one that stopped after an
    epoch that was to be validated makes up for that, so that the best network is not missed. The
    training data loader's sampler must be `hrformer_mmpose.DefaultSampler`; with another one an
    epoch that was begun starts over, and augmentation is not repeated exactly.
    """

    def run(self) -> nn.Module:
        """Train until `max_epochs`."""
        self._done = self._batches_done()
        if isinstance(self._sampler, DefaultSampler):
            # A run without a configured seed takes up that of the file it resumes.
            self._sampler.seed = self._common_seed
        self.runner.call_hook('before_train')
        # The best network's file is saved again when it is validated, and knows of it.
        validated = self.runner.message_hub.runtime_info.get(_VALIDATED)
        self._decide_current_val_interval()
        if self._iter and not self._done and validated != self._epoch:
            with _not_logged(self.runner.hooks) if self._is_logged() else nullcontext():
                self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it."""
        place = dict(epoch=self._epoch, iter=self._iter - self._done, batches=len(self.dataloader))
        self.runner.message_hub.update_info(_PLACE, place)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if self._done:
            self._sampler.start = self._done * self.dataloader.batch_size
        for index, data_batch in enumerate(self.dataloader, start=self._done):
            self.run_iter(index, data_batch)
        self._done = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Run one iteration with random numbers drawn from seed, process and iteration."""
        seed_all(self._common_seed, get_rank(), self._iter)
        super().run_iter(idx, data_batch)

    @property
    def _sampler(self) -> Sampler:
        return self.dataloader.sampler

    @property
    def _common_seed(self) -> int:
        """Return the seed of the run, without the rank that MMEngine may add to it."""
        differ = self.runner._randomness_cfg.get('diff_rank_seed', False)
        return self.runner.seed - get_rank() if differ else self.runner.seed

    def _validate_if_due(self) -> None:
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.message_hub.update_info(_VALIDATED, self._epoch)
            self.runner.val_loop.run()

    def _is_logged(self) -> bool:
        """Return whether an earlier run in this folder has logged this epoch's validation."""
        return any(
            entry.get('step') == self._epoch and 'iter' not in entry
            for entry in log_entries(self.runner.work_dir)
        )

    def _batches_done(self) -> int:
        """Return the number of batches of the current epoch that were already used."""
        place = self.runner.message_hub.runtime_info.get(_PLACE)
        if not place:
            return 0
        done = self._iter - place['iter'] if place['epoch'] == self._epoch else 0
        can_skip = isinstance(self._sampler, DefaultSampler) and self.dataloader.batch_size
        why = None
        if place['batches'] != len(self.dataloader):
            why = f'an epoch had {place["batches"]} batches and now has {len(self.dataloader)}'
        elif done and not can_skip:
            why = f'its sampler is {type(self._sampler).__name__}'
        if why is None:
            return done
        epoch = f'epoch {self._epoch + 1}'
        what = f'{epoch} was interrupted after {done} batches and starts over' if done else epoch
        print_log(
            f'{what}: {why}. What follows is not what an undisturbed run would have done',
            logger='current',
            level=logging.WARNING,
        )
        return 0


@contextmanager
def _not_logged(hooks: Sequence[Hook]) -> Iterator[None]:
    """Keep the logger's hook from logging a validation that it has logged before."""
    loggers = [hook for hook in hooks if isinstance(hook, LoggerHook)]
    for hook in loggers:
        hook.after_val_epoch = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for hook in loggers:
            del hook.after_val_epoch
