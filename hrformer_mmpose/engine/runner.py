"""MMEngine's runner with safe loading, atomic saving and exact resuming.

Loading: file -> `checkpoint.files.read` (safe) -> `checkpoint.matching` (names, completeness) ->
model. Saving: MMEngine collects the state, `io.replacing` writes a whole file or none. Resuming
takes the newest file of the work folder that can be verified.
"""

import errno
import os
import shutil
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as _Runner
from torch import nn
from torch.utils.data import DataLoader

from ..backbones import HRFormer
from ..checkpoint import files, matching
from ..checkpoint.head_rows import Keypoints, load_head, names_in, names_in_file
from ..datasets.collate import pseudo_collate
from ..errors import WeightsError, device_errors, smaller_batch
from ..io import remove_partials, replacing
from ..registry import RUNNERS
from .finite_hook import FiniteHook, unwrapped_model
from .first_use import BlamesConfig
from .hooks import ClassesHook, SkippedHook
from .loops import EpochBasedTrainLoop
from .resuming import Settings
from .state_checks import check_averages, check_counters
from .training_state import from_plain, is_training_state
from .work_dir import POINTER, SetAsideHook, locked, on_main_process


@RUNNERS.register_module()
class Runner(BlamesConfig, _Runner):
    """MMEngine's `Runner`, with safe loading, atomic saving and exact resuming.

    Epochs run in `hrformer_mmpose.EpochBasedTrainLoop` unless `train_cfg` names another loop.

    Args:
        *args: as MMEngine's class takes them; `from_cfg` builds it from a config.
        **kwargs: likewise.
    """

    _complete = False  # whether loaded weights must fill the whole network

    def train(self) -> nn.Module:
        """Train; with `resume` and no `load_from`, from the newest file of `work_dir`.

        Raises:
            ConfigError: another run trains in `work_dir`.
        """
        with self._device_errors(), ExitStack() as stack:
            on_main_process(lambda: stack.enter_context(locked(self.work_dir)))
            if is_main_process():
                remove_partials(Path(self.work_dir), '*')
            if self._resume and self._load_from is None:
                self._load_from = on_main_process(self._search)
                self._resume = self._load_from is not None
            return super().train()

    def test(self) -> dict:
        """Test the weights of `load_from`, which must be complete."""
        self._complete = True
        self.write_config(self.log_dir)  # `work_dir` may hold the config of a training
        with self._device_errors('test_dataloader'):
            return super().test()

    def val(self) -> dict:
        """Validate the weights of `load_from`, which must be complete."""
        self._complete = True
        self.write_config(self.log_dir)  # `work_dir` may hold the config of a training
        with self._device_errors('val_dataloader'):
            return super().val()

    def _device_errors(self, loader: str | None = None) -> AbstractContextManager[None]:
        """Context that raises a `DeviceError` for errors about memory and devices.

        Args:
            loader: name of the data loader in the config; None for training with validation.
        """

        def advice() -> str:
            name = loader or ('train_dataloader' if self.model.training else 'val_dataloader')
            size = (self.cfg.get(name) or {}).get('batch_size')
            if size is None:
                return f'take smaller batches in {name}'
            return smaller_batch(f'{name}.batch_size', size)

        return device_errors(advice)

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume a training run; a file of weights alone starts a new one.

        The config decides, the file gives the state: see `Settings`.

        Raises:
            WeightsError: the file cannot be read or does not fit.
            ConfigError: the config's optimizer or schedule is another one than the file's.
        """
        self._complete = True
        content = files.read(filename, skip_tensors=True)
        if not is_training_state(content):
            self.logger.warning(
                f"'{filename}' holds weights, but no state of a training run: training starts with "
                'them, at the first epoch'
            )
            self.load_checkpoint(filename)
            return
        check_counters(content, filename)
        settings = Settings(self.optim_wrapper, self.param_schedulers)
        settings.check(content, filename)
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:  # an optimizer's groups differ
            raise WeightsError(
                f"the training state in '{filename}' is not of this config: {error}. To start "
                'from its weights alone, use load_from instead of --resume'
            ) from error
        for line in settings.apply(self.optim_wrapper, self.param_schedulers):
            self.logger.warning(line)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load weights of any origin; the network stays as it is if they do not fit.

        Args:
            filename: path, http(s) address, `mmpose://NAME` or `hf://OWNER/REPO`, see
                `load_weights`.
            args: MMEngine's, ignored: tensors come to the CPU, names are converted, everything is
                checked.
            kwargs: likewise.

        Returns:
            The file's content, as MMEngine's runner expects it.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        content = files.read(filename)
        weights = files.weights_in(content, filename)
        model = unwrapped_model(self)
        origin = files.recorded_origin(content)
        keypoints = Keypoints(self._keypoints(), names_in_file(content))
        result = matching.match(weights, model, filename, origin, self._complete, keypoints)
        result.log(self.logger)
        checkpoint = {}
        if is_training_state(content):
            check_counters(content, filename)
            checkpoint = {**content}
            from_plain(checkpoint)
            checkpoint['meta'].pop('config', None)  # MMEngine would run it
        checkpoint['state_dict'] = result.state
        if self._resume:  # otherwise the averages start anew
            check_averages(checkpoint, filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        result.state = checkpoint['state_dict']
        result.load_into(model)
        self._has_loaded = True
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Save as MMEngine does, atomically.

        Raises:
            WeightsError: the disk is full, or the file cannot be written for another reason. What
                was saved before is intact.
        """
        if not is_main_process() or '://' in out_dir:
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = os.path.join(out_dir, filename)
        try:
            os.makedirs(out_dir, exist_ok=True)
            with replacing(path) as partial:
                super().save_checkpoint(out_dir, os.path.basename(partial), *args, **kwargs)
        except OSError as error:
            raise WeightsError(self._not_saved(path, error)) from error

    def _not_saved(self, path: str, error: OSError) -> str:
        why = f'cannot save {path!r}: {error.strerror or error}'
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(os.path.dirname(path)).free / 2**20
            why += f' ({free:.1f} MiB are free)'
        last = self.last_checkpoint()
        if not last:
            return f'{why}; training stops'
        return f"{why}; training stops. The last checkpoint is '{last}': --resume goes on from it"

    def last_checkpoint(self) -> str:
        """Return the path of the last saved file, or ''."""
        pointer = Path(self.work_dir) / POINTER
        return pointer.read_text().strip() if pointer.exists() else ''

    def dump_config(self) -> None:
        """Do nothing: MMEngine calls this before the folder is locked; see `write_config`."""

    @master_only
    def write_config(self, folder: str) -> None:
        """Write the config into `folder`, under its own name."""
        name = os.path.basename(self.cfg.filename or f'{self.timestamp}.py')
        self.cfg.dump(os.path.join(folder, name))

    def register_hooks(self, *args, **kwargs) -> None:
        """Register MMEngine's hooks and this package's checks."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(SetAsideHook())
        self.register_hook(FiniteHook())
        self.register_hook(SkippedHook(), 'LOW')
        self.register_hook(ClassesHook(), 'VERY_HIGH')

    def _init_model_weights(self) -> None:
        """Initialize the weights, unless a resumed file replaces all of them."""
        if self._resume:
            return
        super()._init_model_weights()
        model, names = unwrapped_model(self), self._keypoints()
        if self._load_from is not None or not names or not isinstance(model.backbone, HRFormer):
            return
        if line := load_head(model, names):
            self.logger.info(line)

    def _keypoints(self) -> tuple[str, ...]:
        """Return the names of the keypoints to learn; () unless a training starts."""
        if self._complete or not isinstance(self._train_loop, BaseLoop):
            return ()
        return names_in(getattr(self.train_dataloader.dataset, 'metainfo', None)) or ()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop, by default `EpochBasedTrainLoop` of this package."""
        if isinstance(loop, dict) and 'type' not in loop and loop.get('by_epoch', True):
            loop = {key: value for key, value in loop.items() if key != 'by_epoch'}
            loop['type'] = EpochBasedTrainLoop
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """Build a data loader as MMEngine does, with this package's `pseudo_collate` by default.

        Configs leave `collate_fn` out because MMEngine's inferencer and runner read it differently.
        """
        if isinstance(dataloader, dict) and 'collate_fn' not in dataloader:
            dataloader = {**dataloader, 'collate_fn': dict(type=pseudo_collate)}
        return _Runner.build_dataloader(dataloader, *args, **kwargs)

    def _search(self) -> str | None:
        """Return the newest checkpoint whose checksums are right, of the first folder with one.

        `work_dir` comes before the folder that the pointer names: in a copied folder the pointer
        still names the original.
        """
        folders, unreadable = [Path(self.work_dir)], []
        if last := self.last_checkpoint():
            folders.append(Path(last).parent)
        for folder in dict.fromkeys(folders):
            if path := self._newest(folder, unreadable):
                return path
            if unreadable:  # not those of another training instead
                break
        self._report(unreadable)
        if unreadable:
            raise WeightsError(
                f"'{self.work_dir}' holds no checkpoint that can be resumed: {unreadable[0]}. To "
                'start anew, leave --resume out'
            )
        self.logger.warning(f"nothing to resume in '{self.work_dir}': training starts anew")
        return None

    def _newest(self, folder: Path, unreadable: list[WeightsError]) -> str | None:
        """Return the newest checkpoint of `folder`; extend the list of unreadable ones."""
        places = []
        for path in folder.glob('*.pth'):
            try:
                content = files.read(path, skip_tensors=True)
                if not is_training_state(content):
                    continue
                check_counters(content, str(path))
            except WeightsError as error:
                unreadable.append(error)
                continue
            meta = content['meta']
            places.append((meta['iter'], meta['epoch'], path.stat().st_mtime_ns, path))
        for iteration, epoch, _, path in sorted(places, reverse=True):
            try:
                files.check(path)
            except WeightsError as error:
                unreadable.append(error)
                continue
            self._report(unreadable)
            self.logger.info(f"resuming from '{path}' (epoch {epoch}, iteration {iteration})")
            return str(path)
        return None

    def _report(self, unreadable: list[WeightsError]) -> None:
        for error in unreadable:
            self.logger.warning(f'passed over: {error}')
