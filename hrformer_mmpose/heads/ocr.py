"""Object-contextual representations (Yuan et al., ECCV 2020, https://arxiv.org/abs/1909.11065).

The segmentation head of HRFormer's paper (section 4.2). An auxiliary classifier predicts coarse
masks. Each mask weights the pixel features into the representation of its class (a region), and
every pixel attends to the K regions.

Parameter names equal those of the authors' checkpoints (`HRT_*_OCR_V2` of
https://github.com/HRNet/HRFormer): `conv3x3`, `ocr_distri_head`, `cls_head`, `aux_head`.

Shapes: B batch, K classes, C channels, D channels of queries and keys; C_j, H_j and W_j of map j,
highest resolution first; N = H_1 * W_1 pixels.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.norm import build_batch_norm
from .segmentation import concatenate, resize
from .segmentation_loss import cross_entropy, ohem_cross_entropy


def gather_regions(features: Tensor, masks: Tensor) -> Tensor:
    """Average the pixel features over each class's mask.

    Args:
        features: (B, C, H, W).
        masks: logits, (B, K, H, W); a softmax over the pixels gives the weights.

    Returns:
        One region a class, (B, C, K, 1).
    """
    weights = masks.flatten(2).softmax(2)
    return (features.flatten(2) @ weights.transpose(1, 2))[..., None]


class ObjectAttention(nn.Module):
    """Attention of the pixels (queries) to the regions (keys and values), with one head.

    Args:
        channels: C.
        key_channels: D.
        norm_cfg: see `build_batch_norm`.
    """

    def __init__(self, channels: int, key_channels: int, norm_cfg: dict):
        super().__init__()
        once = channels, key_channels
        self.f_pixel = _conv_norm_relu((*once, key_channels), norm_cfg)
        self.f_object = _conv_norm_relu((*once, key_channels), norm_cfg)
        self.f_down = _conv_norm_relu(once, norm_cfg)
        self.f_up = _conv_norm_relu(once[::-1], norm_cfg)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Pixel features (B, C, H, W), regions (B, C, K, 1) -> context (B, C, H, W)."""
        query = self.f_pixel(features).flatten(2).transpose(1, 2)  # (B, N, D)
        key = self.f_object(regions).flatten(2)  # (B, D, K)
        value = self.f_down(regions).flatten(2)  # (B, D, K)
        attention = (query @ key * key.shape[1] ** -0.5).softmax(2)  # (B, N, K)
        context = value @ attention.transpose(1, 2)  # (B, D, N)
        return self.f_up(context.unflatten(2, features.shape[2:]))


class ObjectContext(nn.Module):
    """Concatenate the context and the pixel features, and merge them.

    Args:
        channels: C.
        key_channels: D.
        dropout: probability of dropping a channel of the result.
        norm_cfg: see `build_batch_norm`.
    """

    def __init__(self, channels: int, key_channels: int, dropout: float, norm_cfg: dict):
        super().__init__()
        self.object_context_block = ObjectAttention(channels, key_channels, norm_cfg)
        self.conv_bn_dropout = nn.Sequential(
            *_conv_norm_relu((2 * channels, channels), norm_cfg), nn.Dropout2d(dropout)
        )

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Pixel features (B, C, H, W), regions (B, C, K, 1) -> (B, C, H, W)."""
        context = self.object_context_block(features, regions)
        return self.conv_bn_dropout(torch.cat([context, features], 1))


class OCRHead(nn.Module):
    """OCR head on the concatenated maps of HRFormer, with its auxiliary loss.

    Args:
        in_channels: channels C_j of the maps, highest resolution first.
        num_classes: K.
        channels: C.
        key_channels: D.
        dropout: probability of dropping a channel before the classifier.
        aux_weight: weight of the auxiliary classifier's loss.
        class_weight: weight of each class in the losses, K numbers.
        ohem_threshold: probability below which a pixel counts (`ohem_cross_entropy`); None: all
            pixels count. The auxiliary loss is always that of all pixels.
        ohem_min_kept: least number of pixels that count, in the batch of a process.
        norm_cfg: see `build_batch_norm`.
        ignore_index: label of pixels that the losses ignore.

    Raises:
        ConfigError: `class_weight` does not have K numbers; a value outside its range.
    """

    align_corners = True  # in all interpolations, as in the authors' code

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        key_channels: int = 256,
        dropout: float = 0.05,
        aux_weight: float = 0.4,
        class_weight: Sequence[float] | None = None,
        ohem_threshold: float | None = None,
        ohem_min_kept: int = 100_000,
        norm_cfg: dict = dict(type='BN'),
        ignore_index: int = 255,
    ):
        super().__init__()
        if class_weight is not None and len(class_weight) != num_classes:
            raise ConfigError(
                f'head: class_weight has {len(class_weight)} numbers, num_classes={num_classes}'
            )
        if ohem_threshold is not None and not 0 < ohem_threshold <= 1:
            raise ConfigError(f'head: ohem_threshold={ohem_threshold} is not in (0, 1]')
        if not 0 <= dropout < 1:
            raise ConfigError(f'head: dropout={dropout} is not in [0, 1)')
        self.num_classes = num_classes
        self.aux_weight = aux_weight
        self.ohem_threshold, self.ohem_min_kept = ohem_threshold, ohem_min_kept
        self.ignore_index = ignore_index
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)

        concatenated = sum(in_channels), channels
        self.conv3x3 = _conv_norm_relu(concatenated, norm_cfg, 3)
        self.ocr_distri_head = ObjectContext(channels, key_channels, dropout, norm_cfg)
        self.cls_head = nn.Conv2d(channels, num_classes, 1)
        self.aux_head = nn.Sequential(
            *_conv_norm_relu(concatenated, norm_cfg, 3), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_j, H_j, W_j) -> logits (B, K, H_1, W_1)."""
        return self.both_logits(maps)[0]

    def both_logits(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the classifier and of the auxiliary one, (B, K, H_1, W_1) each."""
        x = concatenate(maps)
        coarse = self.aux_head(x)
        features = self.conv3x3(x)
        context = self.ocr_distri_head(features, gather_regions(features, coarse))
        return self.cls_head(context), coarse

    def loss(self, maps: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Compute the losses of both classifiers, `loss_seg` and `loss_aux` (weighted).

        Args:
            maps: see `forward`.
            target: class of each pixel, or `ignore_index`, (B, H, W).
        """
        logits, coarse = (resize(x, target.shape[1:]) for x in self.both_logits(maps))
        settings = dict(weight=self.class_weight, ignore_index=self.ignore_index)
        if self.ohem_threshold is None:
            loss = cross_entropy(logits, target, **settings)
        else:
            hard = self.ohem_threshold, self.ohem_min_kept
            loss = ohem_cross_entropy(logits, target, *hard, **settings)
        aux = cross_entropy(coarse, target, **settings)
        return {'loss_seg': loss, 'loss_aux': self.aux_weight * aux}


def _conv_norm_relu(channels: Sequence[int], norm_cfg: dict, kernel: int = 1) -> nn.Sequential:
    """Convolutions through a list of channels, each followed by a nested BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(channels):
        norm = nn.Sequential(build_batch_norm(norm_cfg, o), nn.ReLU())
        layers += [nn.Conv2d(i, o, kernel, padding=kernel // 2), norm]
    return nn.Sequential(*layers)
