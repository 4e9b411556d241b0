"""Hooks: inference network, compilation, test report, skipped samples, classes."""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import mmengine
import torch
from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..backbones.half_precision import HalfPrecision, takes_half_weights
from ..errors import ConfigError, DataError
from ..evaluation import report, report_pictures
from ..execution.compiling import compile_network
from ..execution.cuda_graph import CudaGraphs, TrainingGraphs
from ..io import replacing
from .finite_hook import unwrapped_model


class FuseHook(Hook):
    """Test with the backbone's inference network, if it has one.

    To be registered behind hooks that exchange weights before a test, such as the moving average's.
    The backbone itself stays in the model, so that they find it unchanged afterwards.

    On CUDA the inference network is replayed as a CUDA graph. It takes half-precision weights
    instead of autocast there, and on CPUs with instructions for the type.

    Args:
        compile: compile the inference network, too; it then takes no CUDA graph.
        dtype: of mixed precision; None for float32.
    """

    def __init__(self, compile: bool = False, dtype: torch.dtype | None = None):
        self.compile, self.dtype = compile, dtype
        self._own_forward: Callable | None = None  # set on the instance by someone else

    def before_test_epoch(self, runner: Runner) -> None:
        """Replace the backbone's forward once the weights to test are loaded."""
        backbone = _backbone(runner)
        if hasattr(backbone, 'fuse_for_inference'):
            fused = backbone.fuse_for_inference()
            if self.compile:
                compile_network(fused)
            self._own_forward = vars(backbone).get('forward')
            # The function, not the module, which would become a part of the backbone.
            backbone.forward = self._on_device(fused, runner)
            runner.logger.info('testing with BatchNorm folded (--no-fuse tests without)')
        elif self.compile:
            compile_network(backbone)

    def _on_device(self, fused: nn.Module, runner: Runner) -> Callable:
        """Return the function that runs the inference network."""
        device = next(chain(fused.buffers(), fused.parameters())).device
        if self.dtype is not None and takes_half_weights(device, self.dtype):
            fused = HalfPrecision(fused, self.dtype, device)
            runner.test_loop.fp16 = False  # heatmaps stay float32
        takes_graph = device.type == 'cuda' and not self.compile
        return CudaGraphs(fused).__call__ if takes_graph else fused.forward

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Called by the runner."""
        backbone = _backbone(runner)
        vars(backbone).pop('forward', None)
        if self._own_forward is not None:
            backbone.forward = self._own_forward


class CompileHook(Hook):
    """Compile the backbone before training or testing; see `compile_network`."""

    def before_train(self, runner: Runner) -> None:
        """Called by the runner."""
        compile_network(_backbone(runner))

    def before_test(self, runner: Runner) -> None:
        """Called by the runner."""
        compile_network(_backbone(runner))


class CudaGraphHook(Hook):
    """Replay the backbone's training step as CUDA graphs; see `TrainingGraphs`."""

    def before_train(self, runner: Runner) -> None:
        """Called by the runner."""
        backbone = _backbone(runner)
        if (reason := _obstacle_to_graphs(runner, backbone)) is not None:
            runner.logger.warning(f'--cuda-graph has no effect: {reason}')
            return
        self._own_forward = vars(backbone).get('forward')
        backbone.forward = TrainingGraphs(backbone).__call__

    def after_train(self, runner: Runner) -> None:
        """Called by the runner."""
        backbone = _backbone(runner)
        if isinstance(getattr(vars(backbone).get('forward'), '__self__', None), TrainingGraphs):
            del backbone.forward
            if self._own_forward is not None:
                backbone.forward = self._own_forward


def _obstacle_to_graphs(runner: Runner, backbone: nn.Module) -> str | None:
    """Return why a training step cannot be replayed, or None."""
    if next(backbone.parameters()).device.type != 'cuda':
        return 'the model is not on a GPU'
    if runner.optim_wrapper._accumulative_counts > 1:
        return 'gradients are accumulated (optim_wrapper.accumulative_counts)'
    if get_world_size() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in backbone.modules()):
        return 'SyncBN exchanges its sums between processes'
    if getattr(backbone, 'with_cp', False):
        return 'the backbone recomputes its blocks (with_cp)'
    return None


def _backbone(runner: Runner) -> nn.Module:
    return unwrapped_model(runner).backbone


class ReportHook(Hook):
    """Write the results of a test: tables to the log, metrics and report to a file, pictures.

    Args:
        out: file for the metrics (.json, .yaml or .pkl); with our `CocoMetric` also the report.
        badcase: picture the persons that were found worst, and those not found.
    """

    def __init__(self, out: str | None = None, badcase: bool = False):
        self.out = out
        self.badcase = badcase

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write tables, files and pictures."""
        if metrics is None or not is_main_process():
            return
        saved = dict(metrics)
        for metric in runner.test_evaluator.metrics:
            outcome = getattr(metric, 'outcome', None)
            if outcome is None:
                continue
            runner.logger.info(report.details(outcome.report))
            saved['report'] = outcome.report
            curves = os.path.join(runner.log_dir, 'precision_recall.png')
            report_pictures.precision_recall(outcome.evaluation, curves)
            runner.logger.info(f"precision and recall are drawn in '{curves}'")
            if self.badcase:
                folder = os.path.join(runner.log_dir, 'badcase')
                found = report_pictures.worst_cases(outcome, metric.dataset_meta, folder)
                runner.logger.info(f"the worst cases are in '{folder}': {', '.join(found)}")
        if self.out:
            os.makedirs(os.path.dirname(os.path.abspath(self.out)), exist_ok=True)
            with replacing(self.out) as partial:
                mmengine.dump(saved, partial, file_format=Path(self.out).suffix[1:])


class SkippedHook(Hook):
    """Log after each epoch what data sets with `on_error='skip'` have skipped."""

    def __init__(self):
        self._told: dict[str, list[str]] = {}

    def after_train_epoch(self, runner: Runner) -> None:
        """Called by the runner."""
        self._tell(runner, 'training', runner.train_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Called by the runner."""
        self._tell(runner, 'validation', runner.val_dataloader)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Called by the runner."""
        self._tell(runner, 'test', runner.test_dataloader)

    def _tell(self, runner: Runner, use: str, loader) -> None:
        skipping = [part for part in _parts(loader.dataset) if _skips(part)]
        if not skipping:
            return
        mine = [line for part in skipping for line in part.skipped()]
        lines = sorted({line for lines in all_gather_object(mine) for line in lines})
        if lines == self._told.get(use):
            return
        self._told[use] = lines
        shown = ''.join(f'\n  {line}' for line in lines[:20])
        more = f'\n  and {len(lines) - 20} more' if lines[20:] else ''
        runner.logger.warning(f'{use}: left out so far: {len(lines)}{shown}{more}')


class ClassesHook(Hook):
    """Refuse a head and data sets with different classes, whose labels would be mixed up."""

    def before_train(self, runner: Runner) -> None:
        """Compare classes once the data sets are loaded."""
        train = self._checked(runner, runner.train_dataloader)
        val = self._checked(runner, runner.val_dataloader) if runner.val_loop else None
        if train and val and (odd := set(train.metainfo['classes']) ^ set(val.metainfo['classes'])):
            raise DataError(
                f"'{_folder(train)}' and '{_folder(val)}' do not have the same classes: "
                f"'{min(odd)}' is in one of them only"
            )

    def before_val(self, runner: Runner) -> None:
        """Called by the runner."""
        self._checked(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Called by the runner."""
        self._checked(runner, runner.test_dataloader)

    def _checked(self, runner: Runner, loader):
        """Return the loader's data set if it and the head have classes."""
        number = getattr(getattr(unwrapped_model(runner), 'head', None), 'num_classes', None)
        dataset = next(_parts(loader.dataset))
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if number is None or classes is None:
            return None
        if len(classes) != number:
            raise ConfigError(
                f"model.head.num_classes={number}, but '{_folder(dataset)}' has {len(classes)} "
                'classes: set it to their number, or data_root to the right data'
            )
        return dataset


def _folder(dataset) -> str:
    return dataset.data_prefix.get('img', '')


def _parts(dataset) -> Iterator:
    """Yield a data set, or the data sets that it wraps."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from _parts(part)


def _skips(dataset) -> bool:
    return getattr(dataset, 'on_error', 'raise') == 'skip'
