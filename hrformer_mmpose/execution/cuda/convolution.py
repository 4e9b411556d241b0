"""Depth-wise 3x3 convolution between GELUs, forwards.

Bound by memory if GELU, about 30 instructions, is computed once a number and not once for each of
the nine taps. A program takes strips four columns wide down a map: of each row it computes GELU of
six numbers and adds their products to the rows above, beside and below, which wait in registers.
That is 1.7 GELUs a number at 16 rows, and one pass over the map, moments of the output included.

Shapes: B batch, H and W of a map, C channels, P programs, U strips (an image, rows and four
columns). A tile is (BLOCK_U, BLOCK_C); a row of six such tiles is called `row`, three taps `w`.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from .batch_norm import merge_moments
from .common import PROGRAMS, gelu, launch, store_moments, update_moments

COLUMNS = 4  # of a strip


def strips(x: torch.Tensor) -> tuple[tuple[int, int], list[int], dict[str, int]]:
    """Divide maps into strips.

    Args:
        x: (B, H, W, C).

    Returns:
        grid: programs along strips and along channels.
        sizes: U, H, W, rows of a strip, strips side by side and one above the other.
        constants: constants of the kernel by name.
    """
    B, H, W, C = x.shape
    width = min(64, triton.next_power_of_2(C))
    block = 128 // width
    across, columns = triton.cdiv(W, COLUMNS), triton.cdiv(C, width)
    for rows in (16, 8, 4):  # shorter ones repeat more GELUs, but occupy the GPU
        down = triton.cdiv(H, rows)
        grid = triton.cdiv(B * across * down, block), columns
        if grid[0] * grid[1] >= PROGRAMS:
            break
    constants = dict(C=C, BLOCK_U=block, BLOCK_C=width, num_warps=2)
    return grid, [B * across * down, H, W, rows, across, down], constants


@triton.jit
def locate_strips(u, U, H, W, rows, across, down):
    """Return first row, first column and tokens before the map of strips `u`, and which exist."""
    x = (u % across).to(tl.int32) * 4
    y = u // across % down * rows
    return y, x, (u // (across * down)) * (tl.cast(H, tl.int64) * W), u < U


@triton.jit
def locate_row(start, y, x, c, W, C):
    """Return the offset of column x of row y in the maps, and the offset from row to row."""
    return ((start + y.to(tl.int64) * W + x) * C)[:, None] + c, tl.cast(W, tl.int64) * C


@triton.jit
def column_masks(x, exists, c, W, C):
    """Return which of the six columns around a strip's four lie in the map."""
    exists, channels = exists & (x < W), c < C
    return (
        (exists & (x > 0))[:, None] & channels,
        exists[:, None] & channels,
        (exists & (x + 1 < W))[:, None] & channels,
        (exists & (x + 2 < W))[:, None] & channels,
        (exists & (x + 3 < W))[:, None] & channels,
        (exists & (x + 4 < W))[:, None] & channels,
    )


@triton.jit
def load_row(ptr, masks, is_row, C: tl.constexpr):
    """Load a row's six numbers around four columns, 0 outside the map."""
    return (
        tl.load(ptr - C, masks[0] & is_row, 0.0),
        tl.load(ptr, masks[1] & is_row, 0.0),
        tl.load(ptr + C, masks[2] & is_row, 0.0),
        tl.load(ptr + 2 * C, masks[3] & is_row, 0.0),
        tl.load(ptr + 3 * C, masks[4] & is_row, 0.0),
        tl.load(ptr + 4 * C, masks[5] & is_row, 0.0),
    )


@triton.jit
def _gelu_row(row, masks, is_row, scale, offset):
    """Compute GELU of a row; the convolution is padded with zeros, which GELU's input is not."""
    return (
        tl.where(masks[0] & is_row, gelu(row[0].to(tl.float32) * scale + offset), 0.0),
        tl.where(masks[1] & is_row, gelu(row[1].to(tl.float32) * scale + offset), 0.0),
        tl.where(masks[2] & is_row, gelu(row[2].to(tl.float32) * scale + offset), 0.0),
        tl.where(masks[3] & is_row, gelu(row[3].to(tl.float32) * scale + offset), 0.0),
        tl.where(masks[4] & is_row, gelu(row[4].to(tl.float32) * scale + offset), 0.0),
        tl.where(masks[5] & is_row, gelu(row[5].to(tl.float32) * scale + offset), 0.0),
    )


@triton.jit
def _add_row(sums, row, w):
    """Add three taps of a row to the sums of four columns."""
    return (
        sums[0] + w[0] * row[0] + w[1] * row[1] + w[2] * row[2],
        sums[1] + w[0] * row[1] + w[1] * row[2] + w[2] * row[3],
        sums[2] + w[0] * row[2] + w[1] * row[3] + w[2] * row[4],
        sums[3] + w[0] * row[3] + w[1] * row[4] + w[2] * row[5],
    )


@triton.jit
def load_taps(weight_ptr, c, C, row: tl.constexpr):
    """Load the three taps of a row of (C, 9), (BLOCK_C) each."""
    at, mask = weight_ptr + 9 * c + 3 * row, c < C
    return (
        tl.load(at, mask, 0.0).to(tl.float32),
        tl.load(at + 1, mask, 0.0).to(tl.float32),
        tl.load(at + 2, mask, 0.0).to(tl.float32),
    )


@triton.jit
def _gelu_dwconv(
    x_ptr, scale_ptr, offset_ptr, weight_ptr, bias_ptr, out_ptr, partials_ptr,
    U, H, W, rows, across, down,
    C: tl.constexpr, BLOCK_U: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    u = tl.program_id(0).to(tl.int64) * BLOCK_U + tl.arange(0, BLOCK_U)
    y, x, start, exists = locate_strips(u, U, H, W, rows, across, down)
    scale, offset = 1.0, 0.0
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + c, c < C, 0.0).to(tl.float32)
        offset = tl.load(offset_ptr + c, c < C, 0.0).to(tl.float32)
    above, beside = load_taps(weight_ptr, c, C, 0), load_taps(weight_ptr, c, C, 1)
    below = load_taps(weight_ptr, c, C, 2)
    bias = tl.load(bias_ptr + c, c < C, 0.0).to(tl.float32)
    bias += tl.zeros((BLOCK_U, BLOCK_C), tl.float32)
    biases = (bias, bias, bias, bias)
    # Sums of the row before, which lacks its taps below, and of this one, which lacks two rows.
    last, this = biases, biases
    count = tl.zeros((BLOCK_U, 1), tl.float32)
    mean = tl.zeros((BLOCK_U, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_U, BLOCK_C), tl.float32)
    masks = column_masks(x, exists, c, W, C)
    at, stride = locate_row(start, y - 1, x, c, W, C)
    x_ptr, out_ptr = x_ptr + at, out_ptr + at - stride
    is_row = ((y > 0) & (y <= H))[:, None]
    coming = load_row(x_ptr, masks, is_row, C)
    for step in range(-1, rows + 1):
        # A row is loaded while the one above it is computed.
        raw, is_now, is_row = coming, is_row, (y + step + 1 < H)[:, None]
        coming = load_row(x_ptr + stride, masks, is_row, C)
        row = _gelu_row(raw, masks, is_now, scale, offset)
        done = _add_row(last, row, below)
        last, this = _add_row(this, row, beside), _add_row(biases, row, above)
        is_own = ((step > 0) & (y + step <= H))[:, None]
        for k in tl.static_range(4):
            if partials_ptr is None:
                out = gelu(done[k]).to(out_ptr.dtype.element_ty)
            else:
                out = done[k].to(out_ptr.dtype.element_ty)
                inside = is_own & (exists & (x + k < W))[:, None]
                count, mean, m2 = update_moments(out.to(tl.float32), inside, count, mean, m2)
            tl.store(out_ptr + k * C, out, masks[k + 1] & is_own)
        x_ptr, out_ptr = x_ptr + stride, out_ptr + stride
    if partials_ptr is not None:
        store_moments(partials_ptr, count, mean, m2, tl.program_id(0), c, C)


def gelu_dwconv(x, scale, offset, conv_weight, conv_bias, *norm):
    out = torch.empty_like(x)
    grid, sizes, constants = strips(x)
    partials = x.new_empty(grid[0], 3, x.shape[-1], dtype=torch.float32)
    tensors = x, scale, offset, conv_weight, conv_bias, out, partials
    launch(_gelu_dwconv, grid, *tensors, *sizes, **constants)
    return out, merge_moments(partials, *norm)


def gelu_dwconv_gelu(x, conv_weight, conv_bias):
    out = torch.empty_like(x)
    grid, sizes, constants = strips(x)
    tensors = x, None, None, conv_weight, conv_bias, out, None
    launch(_gelu_dwconv, grid, *tensors, *sizes, **constants)
    return out
