"""Depth-wise 3x3 convolution between GELUs, forwards.

Bound by memory if GELU, about 30 instructions, is computed once a number and not once for each of
the nine taps. A program takes strips four columns wide down a map: of each row it computes GELU of
six numbers and adds their products to the rows above, beside and below, which wait in registers.
That is 1.7 GELUs a number at 16 rows, and one pass over the map, moments of the output included.

Shapes: B batch, H and W of a map, C channels, P programs, U strips (an image, rows and four
columns). A tile is (BLOCK_U, BLOCK_C); a row of six such tiles is called `row`, three taps `w`.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops.py`)
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
    block = 256 // width
    across, columns = triton.cdiv(W, COLUMNS), triton.cdiv(C, width)
    for rows in (16, 8, 4):  # shorter ones repeat more GELUs, but occupy the GPU
        down = triton.cdiv(H, rows)
        grid = triton.cdiv(B * across * down, block), columns
        if grid[0] * grid[1] >= PROGRAMS:
            break
    constants = dict(C=C, BLOCK_U=block, BLOCK_C=width)
    return grid, [B * across * down, H, W, rows, across, down], constants


@triton.jit
def locate_strips(u, U, H, W, rows, across, down):
    """Return first row, first column and tokens before the map of strips `u`, and which exist."""
    x = (u % across).to(tl.int32) * 4
    y = u // across % down * rows
    return y, x, (u // (across * down)) * (tl.cast(H, tl.int64) * W), u < U


@triton.jit
def load_at(ptr, start, y, x, exists, c, H, W, C):
    """Load (BLOCK_U, BLOCK_C) numbers at row y and column x of each strip, and which exist."""
    inside = exists & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    mask = inside[:, None] & (c < C)
    return tl.load(ptr + ((start + y * W + x) * C)[:, None] + c, mask, 0.0).to(tl.float32), mask


@triton.jit
def _gelu_at(ptr, start, y, x, exists, c, scale, offset, H, W, C):
    number, mask = load_at(ptr, start, y, x, exists, c, H, W, C)
    # The convolution is padded with zeros, which GELU's input is not.
    return tl.where(mask, gelu(number * scale + offset), 0.0)


@triton.jit
def _gelu_row(ptr, start, y, x, exists, c, scale, offset, H, W, C):
    """Return GELU of a row's six numbers around four columns."""
    return (
        _gelu_at(ptr, start, y, x - 1, exists, c, scale, offset, H, W, C),
        _gelu_at(ptr, start, y, x, exists, c, scale, offset, H, W, C),
        _gelu_at(ptr, start, y, x + 1, exists, c, scale, offset, H, W, C),
        _gelu_at(ptr, start, y, x + 2, exists, c, scale, offset, H, W, C),
        _gelu_at(ptr, start, y, x + 3, exists, c, scale, offset, H, W, C),
        _gelu_at(ptr, start, y, x + 4, exists, c, scale, offset, H, W, C),
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
    for step in range(-1, rows + 1):
        row = _gelu_row(x_ptr, start, y + step, x, exists, c, scale, offset, H, W, C)
        done = _add_row(last, row, below)
        last, this = _add_row(this, row, beside), _add_row(biases, row, above)
        is_own = exists & (step > 0) & (y + step <= H)
        for k in tl.static_range(4):
            inside = (is_own & (x + k < W))[:, None]
            at = ((start + (y + step - 1) * W + (x + k)) * C)[:, None] + c
            if partials_ptr is None:
                out = gelu(done[k]).to(out_ptr.dtype.element_ty)
            else:
                out = done[k].to(out_ptr.dtype.element_ty)
                count, mean, m2 = update_moments(out.to(tl.float32), inside, count, mean, m2)
            tl.store(out_ptr + at, out, inside & (c < C))
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
