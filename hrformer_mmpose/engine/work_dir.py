"""Work folder of a training run: its lock, its log, and the checkpoints of earlier runs."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ..checkpoint import files
from ..errors import ConfigError, UserError, WeightsError
from ..locks import lock

POINTER = 'last_checkpoint'
LOCK = '.lock'


def on_main_process(function: Callable[[], Any]) -> Any:
    """Call a function on the main process; every process returns its result or raises its error.

    Raises:
        UserError: raised by `function`.
    """
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer[0] = function()
        except UserError as error:
            answer[1] = error
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Lock a folder for one training run. The system releases the lock of a killed run.

    Nothing is locked on Windows and on network file systems without locks, see `lock`.

    Raises:
        ConfigError: another run holds it.
    """
    with open(Path(folder) / LOCK, 'a+') as file:
        if not lock(file):
            file.seek(0)
            raise ConfigError(
                f"'{folder}' is in use by another training run ({file.read() or 'unknown'}): wait "
                'for its end, or give another --work-dir'
            )
        if hasattr(os, 'register_at_fork'):  # workers outlive a killed run by seconds
            os.register_at_fork(after_in_child=file.close)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield


def log_entries(work_dir: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yield what the runs in a work folder have logged, oldest first.

    Entries of training have the iteration as `step`, those of validation the epoch. The last line
    of a killed run may be cut off; it is skipped.
    """
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            with suppress(ValueError):
                yield json.loads(line)


class SetAsideHook(Hook):
    """Move the checkpoints of an earlier run to a folder of their own.

    A run that starts anew names its files as the earlier one did and would overwrite them; one
    that goes back to an earlier file would be mixed up with the later ones. They are moved when the
    first iteration is done: a start that fails leaves everything where `--resume` finds it.
    """

    priority = 'VERY_HIGH'  # before anything is saved

    def before_train(self, runner: Runner) -> None:
        """Collect the earlier files when weights and data are loaded."""
        self._start = runner.iter

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Move the earlier files after the first iteration."""
        if runner.iter != self._start or not is_main_process():
            return
        folders = _checkpoint_folders(runner)
        source = os.path.realpath(runner._load_from or '')
        goes_on = self._start and Path(source).parent in folders
        for folder in folders:
            if goes_on:
                earlier = [path for path in folder.glob('*.pth') if _iteration(path) > self._start]
            else:
                earlier = [*folder.glob('*.pth'), *folder.glob(POINTER)]
            if earlier:
                runner.logger.warning(_set_aside(folder, earlier))
        runner.write_config(runner.work_dir)


def _checkpoint_folders(runner: Runner) -> list[Path]:
    """Return the work folder and the folders of checkpoint hooks."""
    names = [hook.out_dir for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    names = [runner.work_dir, *(str(name) for name in names if '://' not in str(name))]
    return [*dict.fromkeys(Path(os.path.realpath(name)) for name in names)]


def _iteration(path: Path) -> int:
    """Return the iteration of a checkpoint, -1 if it cannot be read."""
    try:
        content = files.read(path, skip_tensors=True)
        return int(content['meta']['iter'])
    except (WeightsError, KeyError, TypeError, ValueError):
        return -1


def _set_aside(folder: Path, earlier: list[Path]) -> str:
    target = folder / time.strftime('previous_%Y%m%d_%H%M%S')
    target.mkdir(exist_ok=True)
    for path in earlier:
        path.rename(target / path.name)
    return (
        f"'{folder}' held checkpoints of an earlier run, {len(earlier)} files; they are now in "
        f"'{target}' (--resume would have gone on with the newest)"
    )
