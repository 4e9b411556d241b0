"""Partition of a map into non-overlapping windows, its inverse, and masks (paper, section 3.1).

The map is padded around its centre to a multiple of the window size, as in the published networks:
a map of height 8 with windows of 7 gets 3 rows above and 3 below.

Shapes: B batch, H and W of the map, C channels, Kh x Kw window, N = Kh * Kw tokens a window,
nW windows a map.
"""

import torch
import torch.nn.functional as F

Window = tuple[int, int]


def padding(size: int, window: int) -> tuple[int, int]:
    """Rows to add before and after `size` rows so that `window` divides the sum."""
    missing = -size % window
    return missing // 2, missing - missing // 2


def map_size(shape: torch.Size) -> tuple[int, ...]:
    """Convert a shape to constants while tracing, so that arithmetic on it is not recorded."""
    return tuple(map(int, shape)) if torch.jit.is_tracing() else tuple(shape)


def effective_shift(size: tuple[int, int], window: Window, shift_size: Window) -> Window:
    """Set the shift to 0 along axes that fit into one window.

    A single window already covers the whole axis. Swin's code shifts neither axis in that case.
    """
    axes = zip(size, window, shift_size, strict=True)
    return tuple(shift if length > side else 0 for length, side, shift in axes)


def window_partition(x: torch.Tensor, window: Window, shift_size: Window = (0, 0)) -> torch.Tensor:
    """Pad a map with zeros, roll it and cut it into windows in row-major order.

    Args:
        x: map, (B, H, W, C).
        window: window size, (Kh, Kw).
        shift_size: rows and columns to roll up and left (Liu et al., ICCV 2021, section 3.2),
            subject to `effective_shift`.

    Returns:
        (B * nW, N, C).
    """
    H, W, C = map_size(x.shape[1:])
    shift = effective_shift((H, W), window, shift_size)
    (top, bottom), (left, right) = padding(H, window[0]), padding(W, window[1])
    if top + bottom + left + right:
        x = F.pad(x, (0, 0, left, right, top, bottom))
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), (1, 2))
    rows, cols = (H + top + bottom) // window[0], (W + left + right) // window[1]
    x = x.reshape(-1, rows, window[0], cols, window[1], C).transpose(2, 3)
    return x.reshape(-1, window[0] * window[1], C)


def window_reverse(
    windows: torch.Tensor, window: Window, size: tuple[int, int], shift_size: Window = (0, 0)
) -> torch.Tensor:
    """Invert `window_partition` and remove the padding.

    Args:
        windows: (B * nW, N, C).
        window: window size, (Kh, Kw).
        size: size of the map without padding, (H, W).
        shift_size: see `window_partition`.

    Returns:
        (B, H, W, C).
    """
    H, W = size
    shift = effective_shift(size, window, shift_size)
    (top, bottom), (left, right) = padding(H, window[0]), padding(W, window[1])
    rows, cols = (H + top + bottom) // window[0], (W + left + right) // window[1]
    (C,) = map_size(windows.shape[-1:])
    x = windows.view(-1, rows, cols, *window, C).transpose(2, 3)
    x = x.reshape(-1, rows * window[0], cols * window[1], C)
    if any(shift):
        x = x.roll(shift, (1, 2))
    return x[:, top : top + H, left : left + W]


def padding_mask(
    size: tuple[int, int], window: Window, like: torch.Tensor, shift_size: Window = (0, 0)
) -> torch.Tensor | None:
    """Mask padded tokens as keys; the mask is added to the attention logits.

    Args:
        size: size of the map, (H, W).
        window: window size, (Kh, Kw).
        like: tensor with the dtype and device of the mask.
        shift_size: see `window_partition`.

    Returns:
        (nW, N), 0 at real tokens and -inf at padded ones; None if nothing is padded. Every window
        holds a real token, since fewer than K rows are added, split between two sides.
    """
    (top, bottom), (left, right) = padding(size[0], window[0]), padding(size[1], window[1])
    if not (top + bottom + left + right):
        return None
    mask = F.pad(like.new_zeros(size), (left, right, top, bottom), value=float('-inf'))
    return window_partition(mask[None, :, :, None], window, shift_size)[:, :, 0]


def shift_mask(
    size: tuple[int, int], window: Window, like: torch.Tensor, shift_size: Window
) -> torch.Tensor:
    """Mask pairs of tokens that are neighbours only because the map was rolled.

    Rolling moves the first rows behind the last ones (and columns likewise). A window there covers
    up to four regions that are not adjacent in the map.

    Args:
        size: size of the map, (H, W).
        window: window size, (Kh, Kw).
        like: tensor with the dtype and device of the mask.
        shift_size: see `window_partition`.

    Returns:
        (nW, N, N), 0 between tokens of one region and -inf between others.
    """
    shift = effective_shift(size, window, shift_size)
    rows, cols = (n + -n % k for n, k in zip(size, window, strict=True))
    # Within a window, a region is identified by its origin: inside the first rows or not, and
    # inside the first columns or not.
    y = torch.arange(rows, device=like.device) < shift[0]
    x = torch.arange(cols, device=like.device) < shift[1]
    region = (2 * y[:, None] + x[None, :]).to(like.dtype)
    region = window_partition(region[None, :, :, None], window, shift)[:, :, 0]
    differs = region[:, :, None] != region[:, None, :]
    return like.new_zeros(differs.shape).masked_fill_(differs, float('-inf'))
