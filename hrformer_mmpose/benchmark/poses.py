"""From crops, and from a folder of images, to poses: ours and exported files against MMPose's.

MMPose's side has the same weights and boxes and no class of this package. Of crops, its estimator's
`predict` is timed; of images, its `Pose2DInferencer`. That one takes no boxes from its caller, so
that they are handed to it as a detector's would be, with its suppression turned off.
"""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from ..checkpoint import save_weights
from ..errors import UserError
from ..imaging.images import read_image
from ..inference import sources, torch_network
from ..inference.detectors import CocoDetections
from ..inference.estimator import Estimator, PoseRuntime
from ..inference.networks import SUFFIXES, open_network
from ..inference.torch_network import PoseEstimator, TorchNetwork
from ..zoo import read_config
from . import baselines
from .timing import Timer, device_of, line, time_in_turns

WARM_UP_IMAGES = 8
PAUSE = 0.5  # seconds; OpenMP's threads spin for 0.2


@dataclass(frozen=True)
class PoseOptions:
    """Options of `benchmark`.

    Attributes:
        config: path or name of a config.
        checkpoint: file of the weights; random weights if None.
        exported: exported files to time as well.
        batch_size: batch sizes of crops.
        images: image files or folders of the whole predictions to time as well.
        boxes: COCO detection or annotation file for `images`.
        flip: average over the mirror image; None follows the config.
        threads: number of CPU threads.
        rounds: number of timed rounds.
    """

    config: str
    checkpoint: str | None
    exported: Sequence[str]
    batch_size: Sequence[int]
    images: Sequence[str] | None
    boxes: str | None
    flip: bool | None
    threads: int
    rounds: int


def benchmark(args: PoseOptions) -> dict:
    """Time crops and images, and print tables.

    Returns:
        `rows` of the tables.
    """
    if args.images and not args.boxes:
        raise UserError('--images needs --boxes')
    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or random_weights(args.config, folder)
        ours = TorchNetwork(args.config, checkpoint, 'cpu', flip_test=args.flip)
        if any(n % 32 for n in ours.input_size):
            raise UserError(f"{args.config}: MMPose's HRFormer takes multiples of 32 pixels only")
        theirs = _MMPose(ours, checkpoint)
        print(f'{ours.name}, {args.threads} threads, flip test: {ours.flip_test}')
        for batch in args.batch_size:
            rows += _crops(ours, theirs, args, batch)
        if args.images:
            images = list(sources.collect(args.images).images)
            boxes = CocoDetections(args.boxes)
            rows += _images(ours, checkpoint, images, boxes, args, Path(folder))
    return dict(rows=rows)


class _MMPose:
    """MMPose's estimator as a `inference.networks.Network`."""

    def __init__(self, ours: TorchNetwork, checkpoint: str):
        init_default_scope('mmpose')
        self.cfg = baselines.mmpose_config(ours.cfg)
        self.cfg.model.test_cfg.flip_test = ours.flip_test
        self.model = MODELS.build(self.cfg.model)
        self.model.eval()
        torch_network.load(self.model, checkpoint)
        self.flip_indices = list(ours.skeleton.flip_indices)

    @torch.no_grad()
    def predict(self, batch: np.ndarray) -> None:
        """Crops (N, h, w, 3) BGR uint8 -> keypoints of the input, by `head.predict`."""
        size = batch.shape[2], batch.shape[1]
        meta = dict(
            flip_indices=self.flip_indices,
            input_size=size,
            input_center=np.array(size) / 2,
            input_scale=np.array(size),
        )
        samples = [PoseDataSample(metainfo=meta) for _ in batch]
        inputs = [torch.from_numpy(one).permute(2, 0, 1) for one in batch]
        data = self.model.data_preprocessor(dict(inputs=inputs, data_samples=samples))
        if self.cfg.model.test_cfg.flip_test:
            feats = [self.model.extract_feat(x) for x in (data['inputs'], data['inputs'].flip(-1))]
        else:
            feats = self.model.extract_feat(data['inputs'])
        self.model.head.predict(feats, samples, test_cfg=self.model.test_cfg)


def _crops(ours: TorchNetwork, theirs: _MMPose, args: PoseOptions, batch: int) -> list[dict]:
    w, h = ours.input_size
    crops = np.random.default_rng(0).integers(0, 256, (batch, h, w, 3)).astype(np.uint8)
    steps: dict[str, Callable] = {
        baselines.MMPOSE: lambda: theirs.predict(crops),
        'ours, PyTorch': lambda: ours.predict(crops),
    }
    for path in args.exported:
        for backend in _backends(path):
            network = open_network(path, backend, args.threads)
            if network.description.flip_test != ours.flip_test:
                wanted = '--flip' if network.description.flip_test else '--no-flip'
                raise UserError(f"'{path}' was exported with {wanted}; give the same option here")
            steps[_name(path, backend)] = lambda network=network: network.predict(crops)
    what = f'crops to keypoints, batch {batch}'
    rows = time_in_turns(what, steps, args.rounds, Timer(device_of('cpu')), pause=PAUSE)
    for row in rows:
        row.update(what='crops', batch=batch)
        print(line(row))
    return rows


def _images(
    ours: TorchNetwork,
    checkpoint: str,
    images: list[str],
    boxes,
    args: PoseOptions,
    folder: Path,
) -> list[dict]:
    """Whole predictions, a third of the rounds: they are long. A few images go before."""
    persons = sum(len(boxes[name]) for name in images)
    size = sum(read_image(name).size for name in images) / 3e6
    print(f'\n{len(images)} images ({size:.0f} megapixels), {persons} persons')
    inferencer = _inferencer(ours, checkpoint, boxes, folder)

    def theirs(images: list[str]) -> None:
        for _ in inferencer(images, batch_size=32, return_datasamples=True):
            pass

    runs: dict[str, Callable] = {baselines.MMPOSE: theirs}
    estimators: dict[str, Estimator] = {
        'ours, PyTorch': PoseEstimator(args.config, checkpoint, 'cpu', flip_test=args.flip)
    }
    for path in args.exported:
        for backend in _backends(path):
            estimators[_name(path, backend)] = PoseRuntime(path, backend, args.threads)
    for name, estimator in estimators.items():
        runs[name] = lambda images, estimator=estimator: estimator(images, boxes)
    for run in runs.values():
        run(images[:WARM_UP_IMAGES])  # backends compile what they see first
    steps = {name: lambda run=run: run(images) for name, run in runs.items()}
    rounds = max(args.rounds // 3, 1)
    rows = time_in_turns(
        'images to poses', steps, rounds, Timer(device_of('cpu')), warm_up=0, pause=PAUSE
    )
    for row in rows:
        row.update(what='images', persons_per_second=persons / row['median_s'])
        print(f'{line(row)}   {row["persons_per_second"]:.2f} persons/s')
    return rows


def _backends(path: str) -> tuple[str | None, ...]:
    """Return the backends that read a file; `open_network` raises the error about any other."""
    return SUFFIXES.get(Path(path).suffix, (None,))


def _inferencer(ours: TorchNetwork, checkpoint: str, boxes: CocoDetections, folder: Path):
    from mmpose.apis.inferencers import Pose2DInferencer

    cfg = baselines.mmpose_config(ours.cfg)
    cfg.model.test_cfg.flip_test = ours.flip_test
    file = folder / 'mmpose.py'
    cfg.dump(file)
    # It remarks on where it takes the keypoints' names from.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        inferencer = Pose2DInferencer(
            str(file), checkpoint, device='cpu', det_model='whole-image', show_progress=False
        )

    def detector(image: str, return_datasamples: bool):
        rows = boxes[image]
        instances = SimpleNamespace(
            bboxes=rows[:, :4], scores=rows[:, 4], labels=np.zeros(len(rows), int)
        )
        instances.cpu = lambda: SimpleNamespace(numpy=lambda: instances)
        return dict(predictions=[SimpleNamespace(pred_instances=instances)])

    inferencer.detector, inferencer.det_cat_ids = detector, (0,)
    preprocess = inferencer.preprocess_single
    inferencer.preprocess_single = lambda *args, **kwargs: preprocess(
        *args, **{**kwargs, 'bbox_thr': -1.0, 'nms_thr': 1.0}
    )
    return inferencer


def random_weights(config: str, folder: str) -> str:
    """Write a checkpoint with random weights of a config into a folder; return its path."""
    cfg = read_config(config)
    path = str(Path(folder) / 'random.pth')
    save_weights(torch_network.build(cfg, 'random').state_dict(), path, 'mmpose')
    return path


def _name(path: str, backend: str) -> str:
    return f'{Path(path).name}, {backend}'
