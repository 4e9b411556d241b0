"""Atomic saving and rotation of checkpoints in the run's own folder."""

import os
from contextlib import suppress
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from ..io import replacing
from ..registry import HOOKS
from .training_state import to_plain
from .work_dir import POINTER

_REPLACED = 'replaced_best'  # in the message hub: file names of the best networks so far


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """MMEngine's `CheckpointHook` that removes old files after the new file and pointer exist.

    MMEngine removes the oldest (and the previous best) checkpoint before it writes the new one, and
    the pointer `last_checkpoint` in place. Here a kill at any moment leaves the newest complete
    file, and the best one, where they were; what the kill left undone is done when the run resumes.
    Files of another folder, which a resumed state may name, are never removed. What is saved is
    plain data (`to_plain`). The files themselves are written by `hrformer_mmpose.Runner`.

    The arguments are those of MMEngine's class: `interval`, `max_keep_ckpts`, `save_best`, ...
    """

    def before_train(self, runner: Runner) -> None:
        """Restore the list of files of a resumed run and complete an interrupted rotation."""
        folder = self._folder(runner)
        source = (runner._resume and runner._load_from) or ''
        if not source or os.path.realpath(os.path.dirname(source)) == os.path.realpath(folder):
            _find_in(folder, runner)
        else:
            _forget(runner)
        super().before_train(runner)
        info = runner.message_hub.runtime_info
        self.last_ckpt = info.get('last_ckpt')
        current = {os.path.basename(path) for path in _best_files(runner).values()}
        for name in info.get(_REPLACED, ()):
            if name not in current:
                self._remove(self.file_backend.join_path(self.out_dir, name))
        if source and self.last_ckpt:
            _point_to(runner, self.file_backend.join_path(self.out_dir, os.path.basename(source)))

    def _folder(self, runner: Runner) -> str:
        """Return `out_dir` as MMEngine will resolve it."""
        if self.out_dir is None:
            return runner.work_dir
        return os.path.join(self.out_dir, os.path.basename(runner.work_dir))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Convert the checkpoint to plain data, as the last of all hooks."""
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
        _point_to(runner, self.last_ckpt)
        if not keeps_all:
            self.keep_ckpt_ids.extend(kept)  # as long as max_keep_ckpts
            for outdated in set(kept) - set(self.keep_ckpt_ids):
                self._remove(self._path(outdated))
            runner.message_hub.update_info('keep_ckpt_ids', [*self.keep_ckpt_ids])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best file; remove the previous one only afterwards."""
        if not self.save_best:
            return
        # The state that knows of a better network also knows which file it replaces.
        names = [os.path.basename(path) for path in _best_files(runner).values()]
        runner.message_hub.update_info(_REPLACED, names)
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


def _best_files(runner: Runner) -> dict[str, str]:
    """Return the best file of each metric, by entry of the message hub."""
    info = runner.message_hub.runtime_info
    return {key: info[key] for key in info if key.startswith('best_ckpt') and info[key]}


def _find_in(folder: str, runner: Runner) -> None:
    """Map the paths in a state to `folder`; a copied folder's state names the original files."""
    info = runner.message_hub.runtime_info
    paths = _best_files(runner)
    if info.get('last_ckpt'):
        paths['last_ckpt'] = info['last_ckpt']
    for key, path in paths.items():
        runner.message_hub.update_info(key, os.path.join(folder, os.path.basename(path)))
    # A file's name is made of these, and then removed.
    if _REPLACED in info:
        names = [os.path.basename(name) for name in info[_REPLACED]]
        runner.message_hub.update_info(_REPLACED, names)
    if 'keep_ckpt_ids' in info:
        steps = [step for step in info['keep_ckpt_ids'] if isinstance(step, int)]
        runner.message_hub.update_info('keep_ckpt_ids', steps)


def _forget(runner: Runner) -> None:
    """Forget the files of another folder, so that they stay there."""
    best = _best_files(runner)
    for path in best.values():
        runner.logger.info(f"the best network so far stays in '{path}'; a better one comes here")
    for key in [*best, 'last_ckpt', 'keep_ckpt_ids', _REPLACED]:
        if key in runner.message_hub.runtime_info:
            runner.message_hub.pop_info(key)


def _point_to(runner: Runner, path: str) -> None:
    """Write `path` to the pointer file."""
    pointer = Path(runner.work_dir) / POINTER
    if is_main_process() and not (pointer.exists() and pointer.read_text() == path):
        with replacing(pointer) as partial:
            Path(partial).write_text(path)
