"""Flip test: predictions for the mirror image, turned back.

Shapes: B batch, K keypoints, C channels, H and W of the heatmap.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError

# Channels a keypoint, and which of them is an offset along x.
FLIP_MODES = {'heatmap': (1, None), 'udp_combined': (3, 1), 'offset': (2, 0)}


def flip_back(
    heatmaps: Tensor, flip_indices: Tensor, flip_mode: str = 'heatmap', shift_heatmap: bool = True
) -> Tensor:
    """Turn the heatmaps of mirror images back, as `mmpose.models.utils.tta.flip_heatmaps`.

    MMPose's function copies the indices to a GPU in each call and waits for it.

    Args:
        heatmaps: (B, C, H, W).
        flip_indices: keypoint of the mirror image for each keypoint, (K), int64.
        flip_mode: 'heatmap', 'udp_combined' or 'offset'.
        shift_heatmap: shift the maps by a pixel to the right.

    Raises:
        ConfigError: another `flip_mode`, or heatmaps of other keypoints.
    """
    if flip_mode not in FLIP_MODES:
        raise ConfigError(f'flip_mode={flip_mode!r} is not one of {", ".join(FLIP_MODES)}')
    channels, offset = FLIP_MODES[flip_mode]
    _, C, H, W = heatmaps.shape
    if channels * len(flip_indices) != C:
        raise ConfigError(
            f'flip test ({flip_mode}): {C} heatmaps are not {channels} for each of '
            f'{len(flip_indices)} keypoints'
        )
    maps = heatmaps.flip(3).view(-1, C // channels, channels, H, W).index_select(1, flip_indices)
    if offset is not None:
        parts = [-part if i == offset else part for i, part in enumerate(maps.unbind(dim=2))]
        maps = torch.stack(parts, dim=2)
    maps = maps.flatten(1, 2)
    return torch.cat([maps[..., :1], maps[..., :-1]], dim=3) if shift_heatmap else maps


def flip_back_coordinates(encoded: Tensor, flip_indices: Tensor) -> Tensor:
    """Turn the keypoints of mirror images back, as `mmpose.models.utils.tta.flip_coordinates`.

    MMPose's function also shifts them by a pixel unless told not to.

    Args:
        encoded: x and y in units of the crop's size, and score, (B, K, 3).
        flip_indices: keypoint of the mirror image for each keypoint, (K), int64.

    Raises:
        ConfigError: predictions for other keypoints.
    """
    if len(flip_indices) != encoded.shape[1]:
        raise ConfigError(
            f'flip test: {encoded.shape[1]} predictions for {len(flip_indices)} keypoints'
        )
    x, y, score = encoded.index_select(1, flip_indices).unbind(dim=2)
    return torch.stack([1 - x, y, score], dim=2)


@functools.lru_cache(maxsize=64)
def _index(flip_indices: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a later call may compute gradients
        return torch.tensor(flip_indices, device=device)


def index_on(flip_indices: Sequence[int], device: torch.device) -> Tensor:
    """Return indices as a tensor (K) on a device, copied to it once."""
    return _index(tuple(map(int, flip_indices)), device)
