"""HRFormer alone, in timm's conventions and with PyTorch only.

    from hrformer_mmpose import create_backbone
    model = create_backbone('hrformer_small', features_only=True, out_indices=(1, 2, 3, 4))

The arguments and the methods of the results have the names and meanings of `timm.create_model`.
"""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..arch import ARCHS
from ..checkpoint import files, matching
from ..checkpoint.state_dict_adapter import TABLE, State, num_classes, to_mmpose
from ..errors import ConfigError
from ..heads.classification import FEATURES, ClassificationHead
from .feature_info import FeatureInfo, Indices, absolute_indices
from .hrformer import STEM_CHANNELS, HRFormer

logger = logging.getLogger('hrformer_mmpose')

NAMES = tuple(f'hrformer_{arch}' for arch in ARCHS)
# As timm's models name them: statistics of ImageNet, for images in [0, 1], RGB.
PRETRAINED_CFG = dict(
    input_size=(3, 224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation='bicubic',
    crop_pct=0.875,
    first_conv='backbone.conv1',
    classifier='head.classifier',
)


def create_backbone(
    name: str,
    pretrained: bool | str | Path = False,
    features_only: bool = False,
    out_indices: Indices = None,
    in_chans: int = 3,
    num_classes: int = 1000,
    **kwargs,
) -> 'HRFormerFeatures | HRFormerClassifier':
    """Create an HRFormer in timm's conventions.

    The images are RGB, scaled to [0, 1] and normalized with `pretrained_cfg`'s mean and std.

    Args:
        name: 'hrformer_tiny', 'hrformer_small' or 'hrformer_base'.
        pretrained: weights of any origin: a file, an address or a name (`mmpose://...`,
            `hf://...`); True downloads the published ImageNet backbone `mmpose://NAME`, which
            exists for small and base. Entries that the file lacks keep their initial values, with a
            warning.
        features_only: return feature maps instead of logits.
        out_indices: of the maps to return: 0 is the first convolution (1/2), 1 to 4 are the maps at
            1/4, 1/8, 1/16 and 1/32. None for all, n for the last n, negative indices from the end.
        in_chans: channels of the image. The first convolution of a file for three channels is
            converted as timm does it.
        num_classes: of the classifier; 0 returns the 2048 pooled features.
        kwargs: other arguments of `HRFormer`, for example `drop_path_rate` or `with_cp`. By default
            `align_corners` is False for features, as in pose estimation, and True for classifiers,
            as in the authors' classification networks.

    Returns:
        `HRFormerFeatures` or `HRFormerClassifier`, in training mode.

    Raises:
        ConfigError: an unknown name or an invalid value.
        WeightsError: the weights cannot be fetched or read, or do not fit.

    Examples:
        >>> model = create_backbone('hrformer_tiny', features_only=True, out_indices=(1, 4)).eval()
        >>> [tuple(x.shape) for x in model(torch.rand(1, 3, 64, 64))]
        [(1, 18, 16, 16), (1, 144, 2, 2)]
        >>> model.feature_info.channels(), model.feature_info.reduction()
        ([18, 144], [4, 32])
    """
    if name not in NAMES:
        similar = difflib.get_close_matches(str(name), NAMES, 1, 0)
        raise ConfigError(
            f"backbone '{name}' does not exist: the names are {', '.join(NAMES)}; "
            f'did you mean {similar[0]}?'
        )
    if not features_only and out_indices is not None:
        raise ConfigError('out_indices needs features_only=True')
    for key in ('arch', 'extra', 'multiscale_output', 'in_channels', 'init_cfg'):
        if key in kwargs:
            raise ConfigError(f'create_backbone sets {key} itself: leave it out')
    arch = name.removeprefix('hrformer_')
    kwargs.update(arch=arch, in_channels=in_chans)
    model: HRFormerFeatures | HRFormerClassifier
    if features_only:
        model = HRFormerFeatures(out_indices, **kwargs)
    else:
        model = HRFormerClassifier(num_classes, **kwargs)
    if pretrained:
        _load(model, f'mmpose://{name}' if pretrained is True else pretrained, in_chans)
    return model


class HRFormerFeatures(nn.Module):
    """Feature maps of HRFormer; also iterable like timm's `FeatureListNet`: a list of maps.

    Args:
        out_indices: see `create_backbone`.
        kwargs: arguments of `HRFormer`.

    Attributes:
        backbone: the `HRFormer`; without index 0, `backbone.fuse_for_inference()` may replace it.
        feature_info: `channels()`, `reduction()` and `module_name()` of the returned maps.
    """

    def __init__(self, out_indices: Indices = None, **kwargs):
        super().__init__()
        info = _feature_info(kwargs['arch'])
        self.out_indices = absolute_indices(out_indices, len(info))
        self.feature_info = FeatureInfo(info, self.out_indices)
        self.pretrained_cfg = PRETRAINED_CFG
        self.backbone = HRFormer(multiscale_output=max(self.out_indices) > 1, **kwargs)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_chans, H, W), any H and W -> the maps of `out_indices`, in ascending order."""
        if 0 not in self.out_indices:
            maps = [None, *self.backbone(x)]
        else:
            half = self.backbone.forward_half(x)
            maps = [half, *self.backbone.forward_from_half(half)]
        return [maps[i] for i in self.out_indices]


class HRFormerClassifier(nn.Module):
    """HRFormer with the classification head of its authors and the methods of timm's models.

    Args:
        num_classes: 0 replaces the last layer by the identity.
        kwargs: arguments of `HRFormer`.

    Attributes:
        backbone: the `HRFormer`; `backbone.fuse_for_inference()` may replace it.
        head: the `ClassificationHead`.
        num_classes: number of classes.
        num_features: channels of `forward_features`, and of the pooled features.
        feature_info: list of dicts that describe the maps.
    """

    def __init__(self, num_classes: int = 1000, **kwargs):
        super().__init__()
        kwargs = dict(align_corners=True) | kwargs
        norm_cfg = {key: kwargs[key] for key in ('norm_cfg',) if key in kwargs}
        self.backbone = HRFormer(multiscale_output=True, **kwargs)
        self.head = ClassificationHead(ARCHS[kwargs['arch']]['channels'], 1, **norm_cfg)
        self.num_features = self.head_hidden_size = FEATURES
        self.feature_info = _feature_info(kwargs['arch'])
        self.reset_classifier(num_classes)

    @property
    def num_classes(self) -> int:
        """Return the number of classes, 0 without a last layer."""
        return self.head.num_classes

    @property
    def pretrained_cfg(self) -> dict:
        """Return size and statistics of the images, and names of layers, as timm's models do."""
        return {**PRETRAINED_CFG, 'num_classes': self.num_classes}

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the map before pooling: (B, in_chans, H, W) -> (B, 2048, H / 32, W / 32)."""
        return self.head.features(self.backbone(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Pool and classify: (B, 2048, h, w) -> (B, K); with `pre_logits` pool only."""
        x = x.mean((2, 3))
        return x if pre_logits else self.head.classifier(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) -> logits (B, K), or features (B, 2048) without a last layer."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new one, or by the identity for `num_classes=0`.

        Raises:
            ConfigError: a negative number, or another pooling than 'avg'.
        """
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ConfigError(f'num_classes={num_classes!r} is no number of classes')
        if global_pool not in (None, 'avg'):
            raise ConfigError(f"global_pool={global_pool!r}: HRFormer has only 'avg'")
        layer: nn.Module = nn.Identity()
        if num_classes:
            old = next(self.head.final_layer.parameters())
            layer = nn.Linear(FEATURES, num_classes, device=old.device, dtype=old.dtype)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.head.classifier = layer.train(self.training)
        self.head.num_classes = num_classes

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that the pose recipe does not decay."""
        return {name for name, _ in self.named_parameters() if name.endswith(TABLE)}


def _feature_info(arch: str) -> list[dict]:
    maps = enumerate(ARCHS[arch]['channels'])
    stem = dict(num_chs=STEM_CHANNELS, reduction=2, module='stem')
    return [stem] + [dict(num_chs=n, reduction=4 << i, module=f'stage{i + 1}') for i, n in maps]


def _load(model: nn.Module, source: str | Path, in_chans: int) -> None:
    """Load what a file has for the network; the number of classes may differ.

    Raises:
        WeightsError: the file cannot be read, or the backbone does not fit.
    """
    content = files.read(source)
    weights = files.weights_in(content, source)
    origin = files.recorded_origin(content) or matching.origin(weights)
    state = _convert_first_conv(to_mmpose(weights), in_chans)
    other_classes = num_classes(state) not in (None, getattr(model, 'num_classes', None))
    if other_classes or not isinstance(model, HRFormerClassifier):
        state = {key: x for key, x in state.items() if not key.startswith('head.classifier.')}
    if not any(key.startswith('head.incre_modules.') for key in state):  # of another task
        state = {key: x for key, x in state.items() if not key.startswith('head.')}
    result = matching.match(state, model, source, origin)
    result.load_into(model)
    result.log(logger)
    if result.missing:
        missing = matching.groups(result.missing)
        logger.warning("'%s': not in the file, initialised anew: %s", source, missing)


def _convert_first_conv(state: Mapping[str, torch.Tensor], channels: int) -> State:
    """Convert the first convolution to another number of channels, as timm does.

    The filters of one channel are the sum of those of three. For other numbers the three are
    repeated and scaled, so that the response to a grey image stays.
    """
    converted = dict(state)
    for key in ('conv1.weight', 'backbone.conv1.weight'):
        weight = converted.get(key)
        if (
            weight is None
            or weight.ndim != 4
            or channels == weight.shape[1]
            or weight.shape[1] != 3
        ):
            continue
        if channels == 1:
            converted[key] = weight.float().sum(1, keepdim=True).to(weight.dtype)
        else:
            repeated = weight.float().repeat(1, -(-channels // 3), 1, 1)[:, :channels]
            converted[key] = (repeated * (3 / channels)).to(weight.dtype)
    return converted
