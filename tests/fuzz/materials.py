"""Valid files that the inputs are made from: a network of a moment, exported files, images."""

import contextlib
import io
import os
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch

from hrformer_mmpose.checkpoint import load_weights, save_weights
from hrformer_mmpose.export import files as export
from hrformer_mmpose.inference.torch_network import TorchNetwork, build
from hrformer_mmpose.synthetic import dataset as synthetic
from hrformer_mmpose.zoo import read_config
from tests.tiny import NETWORK

# What trains, validates and saves within a second or two.
CONFIG = (
    NETWORK
    + """param_scheduler = [
    dict(type='LinearLR', begin=0, end=2, start_factor=0.1, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=9, milestones=[1], gamma=0.5, by_epoch=True),
]
train_cfg = dict(max_epochs=2, val_interval=1)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(indices=4))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(indices=4))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='EPE', rule='less'))
val_evaluator = [dict(type='hrformer_mmpose.CocoMetric', ann_file=
    '{{$DEMO_ROOT:data/demo}}/annotations/person_keypoints_val2017.json'), dict(type='EPE')]
test_evaluator = val_evaluator
randomness = dict(seed=5)
"""
)


class Materials:
    """Files in a folder.

    Args:
        folder: for the files. exported: export the network, which takes seconds.

    Attributes:
        config, checkpoint: of the network. onnx, xml: the network exported. data: generated people
            in COCO's layout. model: the network in evaluation mode.
    """

    def __init__(self, folder: Path, exported: bool = True):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config, self.checkpoint = folder / 'tiny.py', folder / 'tiny.pth'
        self.onnx, self.xml = folder / 'tiny.onnx', folder / 'tiny.xml'
        self.data = folder / 'people'
        os.environ['DEMO_ROOT'] = str(self.data)
        # The exporters start threads, which a process that is to fork must not have.
        in_child(lambda: self._write(exported))
        self.model = build(read_config(str(self.config)), 'tiny').eval()
        self.model.load_state_dict(load_weights(self.checkpoint))

    def _write(self, exported: bool) -> None:
        torch.manual_seed(3)
        torch.set_num_threads(1)
        synthetic.generate(self.data, num_train=6, num_val=4, seed=3)
        self.config.write_text(CONFIG)
        model = build(read_config(str(self.config)), 'tiny')
        _spread(model)
        save_weights(model.state_dict(), self.checkpoint, 'mmpose')
        if not exported:
            return
        network = TorchNetwork(self.config, self.checkpoint, 'cpu', fuse=False, flip_test=False)
        for path in (self.onnx, self.xml):
            export.write(network, self.checkpoint, path)


def in_child(function: Callable[[], object]) -> None:
    """Call a function in a forked process.

    Raises:
        RuntimeError: it failed.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f'{function.__qualname__} failed in a child process')


def _spread(model: torch.nn.Module) -> None:
    """Weights by which different images have different poses."""
    model.head.final_layer.weight.data.normal_(0, 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)


def picture(rng: random.Random, width: int = 64, height: int = 48) -> np.ndarray:
    """Smooth colours with some noise, (H, W, 3) uint8."""
    generator = np.random.default_rng(rng.randrange(2**32))
    coarse = generator.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@contextlib.contextmanager
def quiet():
    """Without what is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def fast_mmengine():
    """Without MMEngine's look at the environment and its layout of dumped configs (seconds)."""
    plain = dict(collect_env=dict), dict(FormatCode=lambda text, **options: (text, True))
    with (
        mock.patch.multiple('mmengine.runner.runner', **plain[0]),
        mock.patch.multiple('mmengine.config.config', **plain[1]),
    ):
        yield
