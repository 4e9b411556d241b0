"""Cutting a map into non-overlapping windows and putting it together again (paper, section 3.1).

The map is padded around its centre to a multiple of the window, as the published networks do, so a
map of height 8 with K = 7 gets 3 rows above and 3 below.

Shapes: B batch, H and W of the map, C channels, K window (height Kh, width Kw), nW windows a map,
N = Kh * Kw tokens a window.
"""

import torch
import torch.nn.functional as F

Window = tuple[int, int]


def padding(size: int, window: int) -> tuple[int, int]:
    """Rows to add before and after `size` rows so that `window` divides the sum."""
    missing = -size % window
    return missing // 2, missing - missing // 2


def map_size(shape: torch.Size) -> tuple[int, ...]:
    """Sizes of a map; in a trace as constants, so that arithmetic on them is not recorded."""
    return tuple(map(int, shape)) if torch.jit.is_tracing() else tuple(shape)


def needed_shift(size: tuple[int, int], window: Window, shift: Window) -> Window:
    """The shift along the axes of a map (H, W) that take more than one window, 0 along the others.

    A single window sees the whole axis, which shifting would only cut up (Swin's code then shifts
    neither axis).
    """
    return tuple(s if n > k else 0 for n, k, s in zip(size, window, shift, strict=True))


def window_partition(x: torch.Tensor, window: Window, shift: Window = (0, 0)) -> torch.Tensor:
    """(B, H, W, C) -> (B * nW, N, C), padded with zeros, windows in row-major order.

    Args:
        x: (B, H, W, C). window: (Kh, Kw). shift: rows and columns by which the padded map is
            rolled upwards and to the left first (Liu et al., ICCV 2021, section 3.2), where
            `needed_shift` leaves it.
    """
    H, W, C = map_size(x.shape[1:])
    shift = needed_shift((H, W), window, shift)
    (top, bottom), (left, right) = padding(H, window[0]), padding(W, window[1])
    if top + bottom + left + right:
        x = F.pad(x, (0, 0, left, right, top, bottom))
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), (1, 2))
    rows, cols = (H + top + bottom) // window[0], (W + left + right) // window[1]
    x = x.reshape(-1, rows, window[0], cols, window[1], C).transpose(2, 3)
    return x.reshape(-1, window[0] * window[1], C)


def window_merge(
    windows: torch.Tensor, window: Window, size: tuple[int, int], shift: Window = (0, 0)
) -> torch.Tensor:
    """The inverse: (B * nW, N, C) -> (B, H, W, C) with `size` = (H, W), the padding cut off."""
    H, W = size
    shift = needed_shift(size, window, shift)
    (top, bottom), (left, right) = padding(H, window[0]), padding(W, window[1])
    rows, cols = (H + top + bottom) // window[0], (W + left + right) // window[1]
    (C,) = map_size(windows.shape[-1:])
    x = windows.view(-1, rows, cols, *window, C).transpose(2, 3)
    x = x.reshape(-1, rows * window[0], cols * window[1], C)
    if any(shift):
        x = x.roll(shift, (1, 2))
    return x[:, top : top + H, left : left + W]


def padding_mask(
    size: tuple[int, int], window: Window, like: torch.Tensor, shift: Window = (0, 0)
) -> torch.Tensor | None:
    """Added to the attention logits, keeps real tokens from attending to padded ones.

    Args:
        size: (H, W) of the map.
        window: (Kh, Kw).
        like: a tensor that gives dtype and device.
        shift: see `window_partition`.

    Returns:
        (nW, N), 0 at real tokens and -inf at padded ones; None where nothing is padded.
        Every window holds a real token, since less than K rows are added, split on two sides.
    """
    (top, bottom), (left, right) = padding(size[0], window[0]), padding(size[1], window[1])
    if not (top + bottom + left + right):
        return None
    mask = F.pad(like.new_zeros(size), (left, right, top, bottom), value=float('-inf'))
    return window_partition(mask[None, :, :, None], window, shift)[:, :, 0]


def shift_mask(
    size: tuple[int, int], window: Window, like: torch.Tensor, shift: Window
) -> torch.Tensor:
    """Added to the attention logits, keeps apart what only the rolling brought into one window.

    Rolling puts the first rows behind the last ones (and the first columns likewise): a window
    there holds up to four parts that are no neighbours in the map.

    Args:
        size, window, like: see `padding_mask`. shift: see `window_partition`.

    Returns:
        (nW, N, N): 0 between tokens of one part, -inf between others.
    """
    shift = needed_shift(size, window, shift)
    rows, cols = (n + -n % k for n, k in zip(size, window, strict=True))
    # After rolling a part is told by whether it came from the first `shift` rows and columns.
    y = torch.arange(rows, device=like.device) < shift[0]
    x = torch.arange(cols, device=like.device) < shift[1]
    part = (2 * y[:, None] + x[None, :]).to(like.dtype)
    part = window_partition(part[None, :, :, None], window, shift)[:, :, 0]
    apart = part[:, :, None] != part[:, None, :]
    return like.new_zeros(apart.shape).masked_fill_(apart, float('-inf'))
