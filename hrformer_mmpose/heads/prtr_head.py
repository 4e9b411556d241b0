"""PRTR's head (Li et al., "Pose Recognition with Cascade Transformers", CVPR 2021), second stage.

A transformer turns the map of a person's crop into a class (a keypoint or none) and coordinates
for each query. The Hungarian algorithm assigns a query to each keypoint: in training by class and
distance, in a test by class alone.

Parameter names equal those of the authors' code, https://github.com/mlpc-ucsd/PRTR.

Shapes: B batch, K keypoints, Q queries, C channels, L decoder layers, H and W of the map.
"""

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from mmpose.models.heads.base_head import BaseHead
from mmpose.registry import KEYPOINT_CODECS
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.detr import Transformer
from ..layers.sine_embedding import sine_embedding
from ..registry import MODELS
from .assignment import assign, match
from .flip_test import flip_back_coordinates, index_on
from .heatmap_head import fraction_correct, to_instances


class _MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *channels: int):
        super().__init__()
        self.layers = nn.ModuleList(map(nn.Linear, channels[:-1], channels[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


@MODELS.register_module()
class PRTRHead(BaseHead):
    """Keypoints from queries; the authors' settings are the defaults.

    Args:
        in_channels: channels of the last map.
        num_joints: K.
        num_queries: Q, at least K.
        channels: C of the transformer.
        num_heads: attention heads of the transformer.
        ffn_channels: inner channels of its FFNs.
        num_layers: layers of encoder and decoder.
        dropout: rate in the transformer.
        no_keypoint_weight: weight of the class "no keypoint" in the classification loss.
        kpt_weight: weight of the L1 distance in the loss and in the matching; that of the class
            is 1.
        decoder: codec that decodes (B, K, 3), `CoordinateLabel`.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: fewer queries than keypoints, or `channels` does not suit `num_heads`.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        num_queries: int = 100,
        channels: int = 256,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        num_layers: tuple[int, int] = (6, 6),
        dropout: float = 0.0,
        no_keypoint_weight: float = 0.1,
        kpt_weight: float = 5.0,
        decoder: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if num_queries < num_joints:
            raise ConfigError(
                f'model.head.num_queries={num_queries}: {num_joints} keypoints need at least '
                f'{num_joints} queries'
            )
        if channels % num_heads or channels % 4:
            raise ConfigError(
                f'model.head.channels={channels} must be a multiple of num_heads={num_heads} and '
                'of 4'
            )
        self.in_channels, self.num_joints = in_channels, num_joints
        self.kpt_weight = kpt_weight
        self.decoder = None if decoder is None else KEYPOINT_CODECS.build(decoder)
        self.input_proj = nn.Conv2d(in_channels, channels, 1)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.transformer = Transformer(channels, num_heads, ffn_channels, num_layers, dropout)
        self.class_embed = nn.Linear(channels, num_joints + 1)
        self.kpt_embed = _MLP(channels, channels, channels, 2)
        class_weight = torch.ones(num_joints + 1)
        class_weight[-1] = no_keypoint_weight
        self.register_buffer('class_weight', class_weight, persistent=False)

    def states(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute the queries' states after each decoder layer, (L, B, Q, C).

        Args:
            feats: maps of the backbone or neck; the last one, (B, in_channels, H, W), is the input.
        """
        x = self.input_proj(feats[-1])
        height, width = map(int, x.shape[2:])
        positions = sine_embedding(height, width, x.shape[1], x.device).to(x.dtype)
        return self.transformer(x.flatten(2).transpose(1, 2), positions, self.query_embed.weight)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Predict keypoints.

        Args:
            feats: see `states`.

        Returns:
            x and y in units of the crop's size, and score, of each keypoint, (B, K, 3), float32.
        """
        state = self.states(feats)[-1]
        # The authors compare the keypoints' classes with each other, not with "no keypoint".
        scores = self.class_embed(state)[..., :-1].float().softmax(dim=2).transpose(1, 2)
        query = assign(-scores)[..., None]  # B, K, 1
        coordinates = self.kpt_embed(state).float().sigmoid()
        coordinates = coordinates.gather(1, query.expand(-1, -1, 2))
        return torch.cat([coordinates, scores.gather(2, query)], dim=2)

    def predict(
        self,
        feats: tuple[Tensor, ...] | list[tuple[Tensor, ...]],
        batch_data_samples: list,
        test_cfg: dict = {},
    ) -> list[InstanceData]:
        """Predict the keypoints of a batch.

        Args:
            feats: see `states`; for the flip test, those of the image and of its mirror image.
            batch_data_samples: B samples with `flip_indices`.
            test_cfg: `flip_test`.

        Returns:
            One instance a sample with `keypoints`, (1, K, 2), in input pixels, and
            `keypoint_scores`, (1, K).
        """
        if not test_cfg.get('flip_test', False):
            return self.decode(self.forward(feats))
        own, mirrored = (self.forward(maps) for maps in feats)
        indices = index_on(batch_data_samples[0].metainfo['flip_indices'], mirrored.device)
        return self.decode((own + flip_back_coordinates(mirrored, indices)) * 0.5)

    def decode(self, batch_outputs: Tensor) -> list[InstanceData]:
        """Decode predictions (B, K, 3) to B instances; see `predict`."""
        return to_instances(*self.decoder.batch_decode(batch_outputs))

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict = {}
    ) -> dict:
        """Compute the losses of a batch after each decoder layer.

        Args:
            feats: see `states`.
            batch_data_samples: B samples with `keypoint_labels` and `keypoint_weights`.
            train_cfg: `compute_acc=False` skips `acc_pose`.

        Returns:
            `loss_cls` and `loss_kpt` of the last layer, `d0.loss_cls` and so on of those before,
            and `acc_pose`: the fraction of keypoints that are off by less than 5 % of the crop.

        Raises:
            ConfigError: backbone and head do not fit together.
        """
        if self.in_channels != feats[-1].shape[1]:
            raise ConfigError(
                f'model.head.in_channels={self.in_channels}, but backbone and neck give a map of '
                f'{feats[-1].shape[1]} channels'
            )
        labels = [sample.gt_instance_labels for sample in batch_data_samples]
        target = torch.cat([label.keypoint_labels for label in labels])  # B, K, 2
        weights = torch.cat([label.keypoint_weights for label in labels])  # B, K
        states = self.states(feats)
        logits = self.class_embed(states).float()
        coordinates = self.kpt_embed(states).float().sigmoid()
        query = self._match(logits, coordinates, target)  # L, B, K
        predicted = coordinates.gather(2, query[..., None].expand(-1, -1, -1, 2))
        losses_cls = self._classification_losses(logits, query)
        distance = (predicted - target).abs() * weights[..., None]
        losses_kpt = self.kpt_weight * self.num_joints * distance.mean((1, 2, 3))
        losses = {}
        for layer, values in enumerate(zip(losses_cls, losses_kpt, strict=True)):
            prefix = '' if layer == len(states) - 1 else f'd{layer}.'
            losses[f'{prefix}loss_cls'], losses[f'{prefix}loss_kpt'] = values
        if train_cfg.get('compute_acc', True):
            offset = (predicted[-1].detach() - target).norm(dim=2)
            losses['acc_pose'] = fraction_correct(offset < 0.05, weights > 0)
        return losses

    @torch.no_grad()
    def _match(self, logits: Tensor, coordinates: Tensor, target: Tensor) -> Tensor:
        """Return each keypoint's query in each layer, (L, B, K)."""
        probability = logits.softmax(dim=3)[..., :-1]
        distance = torch.cdist(coordinates, target.expand(len(logits), -1, -1, -1), p=1)
        return match((self.kpt_weight * distance - probability).transpose(2, 3))

    def _classification_losses(self, logits: Tensor, query: Tensor) -> list[Tensor]:
        """Compute the cross entropy of each layer; queries without a keypoint are class K."""
        classes = torch.full(logits.shape[:3], self.num_joints, device=logits.device)
        keypoints = torch.arange(self.num_joints, device=logits.device)
        classes = classes.scatter(2, query, keypoints.expand_as(query))
        weight = self.class_weight.to(logits.dtype)
        return [
            F.cross_entropy(one.flatten(0, 1), wanted.flatten(), weight)
            for one, wanted in zip(logits, classes, strict=True)
        ]
