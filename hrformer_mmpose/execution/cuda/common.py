"""Parts of kernels that several files use, and their launch.

Shapes: T tokens, C channels, P programs. A tile is (BLOCK_T, BLOCK_C): channels lie side by side in
memory, so that a warp reads whole cache lines.
"""

import torch
import triton
import triton.language as tl

TILE = 2048  # numbers a tile: 16 a thread
PROGRAMS = 1024  # of a kernel that sums over tokens: a few for each processor of a large GPU


def launch(
    kernel: triton.JITFunction,
    grid: tuple[int, ...],
    *args,
    num_warps: int = 4,
    num_stages: int = 1,
    **sizes,
):
    """Run a kernel on the device of its first tensor.

    Args:
        kernel: the kernel.
        grid: number of programs along each axis.
        args: arguments in the kernel's order.
        num_warps: warps of a program.
        num_stages: tiles that a loop around a product loads ahead; the other kernels gain nothing.
        sizes: arguments by name, and further options of the compiler.
    """
    with torch.cuda.device_of(args[0]):
        # Triton 3.10 turns fused multiply-adds off unless they are asked for.
        options = dict(num_warps=num_warps, num_stages=num_stages, enable_fp_fusion=True)
        kernel[grid](*args, **sizes, **options)


def tile(C: int) -> dict[str, int]:
    """Choose the tile of a kernel that takes channels in blocks."""
    width = min(64, triton.next_power_of_2(C))
    return dict(BLOCK_T=TILE // width, BLOCK_C=width)


def tokens_per_program(T: int, block_t: int, column_blocks: int) -> int:
    """Choose how many tokens, whole tiles, a program passes over.

    Args:
        T: tokens.
        block_t: tokens of a tile.
        column_blocks: programs side by side.
    """
    tiles = triton.cdiv(T, block_t)
    return block_t * max(1, triton.cdiv(tiles * column_blocks, PROGRAMS))


if triton.knobs.runtime.interpret:  # which knows no assembly

    @triton.jit
    def _reciprocal(x):
        return 1 / x

    @triton.jit
    def _exp2(x):
        return tl.exp2(x)

else:
    # Without the instructions that let the hardware's approximations take and return subnormal
    # numbers: a third of GELU's.

    @triton.jit
    def _reciprocal(x):
        return tl.inline_asm_elementwise(
            'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def _exp2(x):
        return tl.inline_asm_elementwise(
            'ex2.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def _normal_cdf_pdf(x):
    """Compute CDF and PDF of the normal distribution at x.

    The CDF follows Abramowitz and Stegun 7.1.26, whose error is at most 7.5e-8, as on CPUs
    (`cpu/common.h`). Both share one exponential: half the instructions of `tl.erf` and `tl.exp`.
    """
    t = _reciprocal(1 + 0.23164190 * tl.abs(x))  # 0.3275911 / sqrt(2)
    e = _exp2(x * x * -0.72134752044448170)
    # Half of the source's coefficients.
    p = 0.5307027145 * t - 0.7265760135
    p = p * t + 0.7107068705
    p = p * t - 0.142248368
    p = p * t + 0.127414796
    tail = p * t * e
    return tl.where(x < 0, tail, 1 - tail), 0.3989422804014327 * e


@triton.jit
def gelu(x):
    """Compute GELU with the error function, as PyTorch does by default."""
    return x * _normal_cdf_pdf(x)[0]


@triton.jit
def gelu_and_derivative(x):
    """Compute GELU and its derivative, cdf + x pdf."""
    cdf, pdf = _normal_cdf_pdf(x)
    return x * cdf, cdf + x * pdf


@triton.jit
def update_moments(x, mask, count, mean, m2):
    """Add a number to the moments of each place of a tile (Welford, Technometrics 1962).

    Sums of x and x^2 would lose the variance where the mean is large.

    Args:
        x: (BLOCK_T, BLOCK_C).
        mask: (BLOCK_T, 1), rows to add.
        count: (BLOCK_T, 1), numbers added before.
        mean: (BLOCK_T, BLOCK_C), their mean.
        m2: (BLOCK_T, BLOCK_C), their sum of squared distances from the mean.
    """
    count += mask.to(tl.float32)
    delta = tl.where(mask, x - mean, 0.0)
    mean += delta * (1 / tl.maximum(count, 1.0))
    return count, mean, m2 + delta * (x - mean)


@triton.jit
def merge_rows(count, mean, m2):
    """Merge the moments of a tile's rows (Chan et al., 1979).

    Args:
        count: (BLOCK_T, BLOCK_C), numbers behind each mean.
        mean: (BLOCK_T, BLOCK_C).
        m2: (BLOCK_T, BLOCK_C), sums of squared distances from the mean.

    Returns:
        Count, mean and m2, (BLOCK_C) each.
    """
    total = tl.sum(count, 0)
    center = tl.sum(count * mean, 0) / total
    # A second pass corrects the rounding error of the first mean.
    center += tl.sum(count * (mean - center), 0) / total
    return total, center, tl.sum(m2 + count * (mean - center) * (mean - center), 0)


@triton.jit
def store_moments(partials_ptr, count, mean, m2, program, c, C):
    """Store the moments of a program's tile in (P, 3, C): count, mean and m2."""
    count, mean, m2 = merge_rows(count + tl.zeros_like(mean), mean, m2)
    to = partials_ptr + program.to(tl.int64) * (3 * C) + c
    has_any = count > 0
    tl.store(to, count, c < C)
    tl.store(to + C, tl.where(has_any, mean, 0.0), c < C)
    tl.store(to + 2 * C, tl.where(has_any, m2, 0.0), c < C)
