"""Checkpoints that are complete, or not there: MMEngine's hook with a safer order of steps."""

import os
from contextlib import suppress
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from ..checkpoint.files import replacing
from ..registry import HOOKS
from .training_state import to_plain

POINTER = 'last_checkpoint'


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """MMEngine's `CheckpointHook`: new file, then the pointer, and only then the old file's end.

    MMEngine removes the oldest (and the previous best) checkpoint before it writes the new one, and
    the pointer `last_checkpoint` in place. Here a kill at any moment leaves the newest complete
    file, and the best one, where they were. What is saved is plain data (`to_plain`). The files
    themselves are written by `hrformer_mmpose.Runner`.

    Args:
        args, kwargs: interval, max_keep_ckpts, save_best, ..., as MMEngine's class takes them.
    """

    def before_train(self, runner: Runner) -> None:
        """Take up from a resumed run which files there are."""
        super().before_train(runner)
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Last of all hooks: what is in the checkpoint becomes plain data."""
        checkpoint.update(to_plain(checkpoint))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        keeps_all = self.max_keep_ckpts <= 0
        kept = [] if keeps_all else [i for i in self.keep_ckpt_ids if i != step] + [step]
        # The file about to be removed is on the list that is saved: a run that resumes after a kill
        # before the removal finds it there and removes it.
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            os.path.basename(self.last_ckpt),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            with replacing(Path(runner.work_dir) / POINTER) as partial:
                Path(partial).write_text(self.last_ckpt)
        if not keeps_all:
            self.keep_ckpt_ids.extend(kept)  # as long as max_keep_ckpts
            for outdated in set(kept) - set(self.keep_ckpt_ids):
                self._remove(self._path(outdated))
            runner.message_hub.update_info('keep_ckpt_ids', [*self.keep_ckpt_ids])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """MMEngine's, which finds no previous best to remove; that follows when all is saved."""
        if not self.save_best:
            return
        if len(self.key_indicators) == 1:
            previous, self.best_ckpt_path = {None: self.best_ckpt_path}, None
            super()._save_best_checkpoint(runner, metrics)
            current = {None: self.best_ckpt_path or previous[None]}
            self.best_ckpt_path = current[None]
        else:
            previous = self.best_ckpt_path_dict
            self.best_ckpt_path_dict = dict.fromkeys(previous)
            super()._save_best_checkpoint(runner, metrics)
            current = {key: new or previous[key] for key, new in self.best_ckpt_path_dict.items()}
            self.best_ckpt_path_dict = current
        for key, path in previous.items():
            if path and path != current[key]:
                self._remove(path)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _remove(self, path: str) -> None:
        if is_main_process():
            with suppress(FileNotFoundError):
                self.file_backend.remove(path)
