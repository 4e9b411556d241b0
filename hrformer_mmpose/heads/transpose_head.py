"""TransPose's head: a transformer encoder on the map, then convolutions to heatmaps."""

from collections.abc import Sequence

from torch import Tensor

from ..layers.position_encoder import PositionEncoder
from ..registry import MODELS
from .heatmap_head import HeatmapHead


@MODELS.register_module()
class TransPoseHead(HeatmapHead):
    """`PositionEncoder` on the last map, followed by `HeatmapHead`.

    Args:
        in_channels: channels of the map.
        out_channels: number of keypoints.
        map_size: (H, W) of the map.
        channels: channels of the encoder's tokens.
        depth: layers of the encoder.
        num_heads: attention heads of the encoder.
        feedforward_channels: width of the hidden layer of the encoder's MLPs.
        kwargs: see `HeatmapHead`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        map_size: Sequence[int],
        channels: int,
        depth: int,
        num_heads: int,
        feedforward_channels: int,
        **kwargs,
    ):
        super().__init__(channels, out_channels, **kwargs)
        self.in_channels = in_channels
        self.encoder = PositionEncoder(
            in_channels, map_size, channels, depth, num_heads, feedforward_channels
        )

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Maps, of which the last (B, in_channels, H, W) is used -> heatmaps (B, K, H', W')."""
        return super().forward((self.encoder(feats[-1]),))
