"""TokenPose's head: heatmaps from keypoint tokens instead of convolutions."""

from collections.abc import Sequence

from torch import Tensor

from ..layers.keypoint_tokens import KeypointTokens
from ..registry import MODELS
from .heatmap_head import HeatmapHead


@MODELS.register_module()
class TokenPoseHead(HeatmapHead):
    """`KeypointTokens` on the last map, with the losses and predictions of `HeatmapHead`.

    Args:
        in_channels: channels of the map.
        out_channels: number of keypoints.
        map_size: (H, W) of the map, multiples of `patch_size`.
        patch_size: see `KeypointTokens`, like the arguments up to `scale_by_head`.
        heatmap_size: (height, width) of the heatmaps.
        channels: channels of a token.
        depths: blocks of each stage.
        num_heads: attention heads.
        mlp_ratio: width of the hidden layers of the blocks' MLPs.
        scale_by_head: scale the logits by the width of a head.
        loss: see `HeatmapHead`.
        decoder: see `HeatmapHead`.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: a patch does not divide the map, or the heads do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        map_size: Sequence[int],
        patch_size: Sequence[int],
        heatmap_size: Sequence[int],
        channels: int = 192,
        depths: Sequence[int] = (12,),
        num_heads: int = 8,
        mlp_ratio: int = 3,
        scale_by_head: bool = True,
        loss: dict = dict(type='KeypointMSELoss', use_target_weight=True),
        decoder: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            deconv_out_channels=None,
            final_layer=None,
            loss=loss,
            decoder=decoder,
            init_cfg=init_cfg,
        )
        self.tokens = KeypointTokens(
            in_channels,
            out_channels,
            map_size,
            patch_size,
            heatmap_size,
            channels,
            depths,
            num_heads,
            mlp_ratio,
            scale_by_head,
        )

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Maps, of which the last (B, in_channels, H, W) is used -> heatmaps (B, K, H', W')."""
        return self.tokens(feats[-1])
