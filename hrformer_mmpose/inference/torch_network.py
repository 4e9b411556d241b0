"""Pose estimation with a PyTorch network.

    from hrformer_mmpose import PoseEstimator
    poses = PoseEstimator('hrformer_base_coco_256x192', 'checkpoint.pth')('image.jpg', boxes)

Config and checkpoint -> network in evaluation mode, BatchNorm folded -> `estimator`, which cuts out
the persons and maps keypoints back to the image. Results equal those of `tools/test.py`.

A batch of crops is copied to the device once, as uint8; `PoseModule` computes everything there, on
a GPU as one CUDA graph for each batch size that recurs; keypoints and scores come back in one copy.
Heads and codecs of MMPose take MMPose's way, which decodes on the CPU.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import DATASETS, MODELS
from mmpose.structures import PoseDataSample

from ..backbones.half_precision import HalfPrecision, takes_half_weights
from ..checkpoint import files, matching
from ..coco.metainfo import parse_metainfo
from ..config_errors import blame
from ..errors import ConfigError
from ..execution.cuda_graph import CudaGraphs
from ..imaging.crops import BOX_PADDING
from ..imaging.skeleton import Skeleton
from ..zoo import read_config
from . import pretrained_folder
from .device import half_precision, select_device
from .estimator import Estimator
from .pose_module import PoseModule, can_decode

logger = logging.getLogger('hrformer_mmpose')


class PoseEstimator(Estimator):
    """Pose estimation with the network of a config and a checkpoint.

    Args:
        config: path of a config, its name (see `hrformer models`), or a `Config`.
        checkpoint: weights of any origin that `tools/test.py` accepts.
        device: 'cpu', 'cuda', 'cuda:1', ...; None selects CUDA if available.
        precision: 'float32', 'float16', 'bfloat16' or 'auto', see `half_precision`.
        flip_test: average over the mirror image; None follows the config.
        fuse: fold BatchNorm and activations into the preceding layers.

    Further arguments: see `Estimator`.

    Raises:
        ConfigError: not a config of a top-down pose estimator, or an invalid argument.
        WeightsError: the checkpoint cannot be read or does not fit.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        precision: str = 'float32',
        flip_test: bool | None = None,
        fuse: bool = True,
        batch_size: int = 32,
        box_threshold: float = 0.0,
        on_error: str = 'raise',
    ):
        network = TorchNetwork(config, checkpoint, device, precision, flip_test, fuse)
        super().__init__(network, batch_size, box_threshold, on_error)

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> 'PoseEstimator':
        """Create the estimator of a folder that `save_pretrained` wrote; no code of it runs.

        Args:
            source: the folder, or `hf://OWNER/REPO[@REVISION]`.
            kwargs: arguments of the class, except for `config` and `checkpoint`.

        Raises:
            WeightsError: not such a folder, another format, or damaged; or it cannot be fetched.
            ConfigError: it names classes that are not of this package, MMPose or MMEngine.
        """
        return cls(*pretrained_folder.load(source), **kwargs)

    def save_pretrained(
        self,
        folder: str | Path,
        results: Mapping[str, float] | None = None,
        source: str = pretrained_folder.UNKNOWN_SOURCE,
    ) -> None:
        """Write weights (safetensors), settings and a model card into a new folder.

        The weights are those of the checkpoint, which is read again, before layers were fused.

        Args:
            folder: a new or empty one.
            results: metrics of a test, by name, for the card.
            source: how they were measured, for the card.

        Raises:
            UserError: the folder holds something or cannot be written.
            ConfigError: the config uses classes of other packages.
            WeightsError: the checkpoint is no longer there.
        """
        network = TorchNetwork(self.network.cfg, self.network.checkpoint, 'cpu', fuse=False)
        network.test_cfg = self.network.test_cfg
        pretrained_folder.save(folder, network, results, source)


class TorchNetwork:
    """`Network` of a config and a checkpoint, for inference and export.

    The arguments are those of `PoseEstimator`.

    Attributes:
        model: MMPose's `TopdownPoseEstimator`.
        cfg: the config.
        checkpoint: as given.
        name: of the config.
        test_cfg: the model's, with `flip_test`.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        precision: str = 'float32',
        flip_test: bool | None = None,
        fuse: bool = True,
    ):
        self.checkpoint = checkpoint
        self.cfg = config if isinstance(config, Config) else read_config(config)
        self.name = Path(self.cfg.filename or 'config').stem
        self.device = select_device(device)
        self._dtype = half_precision(precision, self.device)
        self.model = build(self.cfg, self.name)
        self.input_size, self.padding, self.udp = crop_settings(self.cfg, self.name)
        self.skeleton = skeleton(self.cfg)
        load(self.model, checkpoint)
        self.model.to(self.device).eval()
        if self.model.head.decoder is None:
            raise ConfigError(f"config '{self.name}': model.head has no decoder (its codec)")
        self.test_cfg = {**self.model.test_cfg}
        if flip_test is not None:
            self.test_cfg['flip_test'] = flip_test
        if fuse and hasattr(self.model.backbone, 'fuse_for_inference'):
            self.model.backbone = self.model.backbone.fuse_for_inference()
            if self._dtype is not None and takes_half_weights(self.device, self._dtype):
                self.model.backbone = HalfPrecision(self.model.backbone, self._dtype, self.device)
                self._dtype = None
        self._poses = self._pose_module()

    @property
    def flip_test(self) -> bool:
        """Return whether predictions are averaged over the mirror image."""
        return bool(self.test_cfg.get('flip_test', False))

    def _pose_module(self) -> PoseModule | CudaGraphs | None:
        on_cuda = self.device.type == 'cuda'
        if on_cuda:
            self.model.to(memory_format=torch.channels_last)
        if not can_decode(self.model, self.input_size):
            return None
        module = PoseModule(
            self.model, self.skeleton.flip_indices, self.test_cfg, self._dtype, on_cuda
        )
        module.eval().to(self.device)
        return CudaGraphs(module) if on_cuda else module

    @torch.inference_mode()
    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map crops (N, h, w, 3) BGR uint8 to keypoints (N, K, 2) of the input, scores (N, K)."""
        if self._poses is None:
            return self._predict_as_mmpose(batch)
        crops = torch.from_numpy(batch)
        on_cuda = self.device.type == 'cuda'
        crops = crops.pin_memory() if on_cuda else crops
        keypoints, scores = self._poses(crops.to(self.device, non_blocking=on_cuda))
        poses = torch.cat([keypoints, scores[..., None]], dim=2).cpu().numpy()  # one copy
        return poses[..., :2], poses[..., 2]

    def _predict_as_mmpose(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict with the methods of the model's own data preprocessor and head."""
        images = [torch.from_numpy(crop).permute(2, 0, 1) for crop in batch]
        flip = list(self.skeleton.flip_indices)
        samples = [PoseDataSample(metainfo=dict(flip_indices=flip)) for _ in images]
        data = self.model.data_preprocessor(dict(inputs=images, data_samples=samples))
        inputs = data['inputs']
        feats = self._features(inputs)
        if self.flip_test:
            feats = [feats, self._features(inputs.flip(-1))]
        instances = self.model.head.predict(feats, samples, test_cfg=self.test_cfg)
        if isinstance(instances, tuple):  # with heatmaps
            instances = instances[0]
        keypoints = np.stack([np.asarray(person.keypoints)[0] for person in instances])
        return keypoints, np.stack([np.asarray(person.keypoint_scores)[0] for person in instances])

    def _features(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._dtype is None:
            return self.model.extract_feat(inputs)
        with torch.autocast(self.device.type, self._dtype):
            feats = self.model.extract_feat(inputs)
        # Half-precision heatmaps are too coarse for sub-pixel maxima.
        return tuple(x.float() for x in feats)


def build(cfg: Config, name: str) -> TopdownPoseEstimator:
    """Build the config's model without loading pre-trained weights.

    Args:
        cfg: the config.
        name: of the config, for error messages.

    Raises:
        ConfigError: not a top-down pose estimator, or it cannot be built.
    """
    with blame(cfg, 'model'):
        model = _build(cfg)
    if not isinstance(model, TopdownPoseEstimator):
        raise ConfigError(
            f"config '{name}' builds a {type(model).__name__}: `hrformer predict`, `export` and "
            'PoseEstimator are for a TopdownPoseEstimator'
        )
    return model


def _build(cfg: Config) -> torch.nn.Module:
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    settings = cfg.model.copy()
    if 'backbone' in settings:
        settings.backbone = {**settings.backbone, 'init_cfg': None}
        norm = settings.backbone.get('norm_cfg') or {}
        if norm.get('type') == 'SyncBN':  # equal in evaluation, and runs on CPUs
            settings.backbone['norm_cfg'] = {**norm, 'type': 'BN'}
    return MODELS.build(settings)


def load(model: torch.nn.Module, checkpoint: str | Path) -> None:
    """Load a checkpoint that must contain all weights; log warnings.

    Args:
        model: changed in place.
        checkpoint: path or address.

    Raises:
        WeightsError: the file cannot be read or does not fit.
    """
    content = files.read(checkpoint)
    result = matching.match(
        files.weights_in(content, checkpoint),
        model,
        checkpoint,
        files.recorded_origin(content),
        complete=True,
    )
    result.load_into(model)
    for warning in result.warnings:
        logger.warning(warning)


def crop_settings(cfg: Config, name: str) -> tuple[tuple[int, int], float, bool]:
    """Read the geometry of crops from a config's test pipeline.

    Args:
        cfg: the config.
        name: of the config, for error messages.

    Returns:
        Input size (w, h), padding of the box, UDP geometry.

    Raises:
        ConfigError: the pipeline contains no TopdownAffine.
    """
    steps = {
        step['type'].split('.')[-1]: step
        for step in (cfg.get('test_dataloader') or {}).get('dataset', {}).get('pipeline', [])
    }
    affine = steps.get('TopdownAffine')
    if affine is None:
        raise ConfigError(f"config '{name}': the test's pipeline has no TopdownAffine")
    padding = steps.get('GetBBoxCenterScale', {}).get('padding', BOX_PADDING)
    return tuple(affine['input_size']), padding, bool(affine.get('use_udp', False))


def skeleton(cfg: Config) -> Skeleton:
    """Return the definition of the keypoints of a config's test data."""
    settings = cfg.test_dataloader.dataset
    metainfo = settings.get('metainfo') or DATASETS.get(settings.type).METAINFO
    return Skeleton.from_metainfo(parse_metainfo(metainfo))
