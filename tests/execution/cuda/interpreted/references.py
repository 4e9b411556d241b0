"""The operators in float64, written plainly, and the comparison of kernels with them.

Gradients are autograd's.

Shapes: B batch, H and W of a map, C channels, h heads, Kh x Kw window, N tokens a window.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hrformer_mmpose.execution import cuda, fused_ops
from tests.conftest import relative_error

TYPES = torch.float32, torch.float16, torch.bfloat16
EPS = 1e-5
_NEGLIGIBLE = 1e-6  # error of a sum in float32


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def moments(x: Tensor) -> Tensor:
    x = x.flatten(0, -2)
    return torch.stack((x.mean(0), ((x - x.mean(0)) ** 2).mean(0)))


def fold(moments: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Return the table `norm` of a BatchNorm, (5, C)."""
    mean, var = moments
    scale = gamma / (var + eps).sqrt()
    return torch.stack((scale, beta - mean * scale, mean, var, 1 / (var + eps).sqrt()))


def bn_grads(sums: Tensor, norm: Tensor, count: int) -> Tensor:
    """Return the gradients of a BatchNorm, (6, C), by the chain rule.

    With y = (x - mean) rstd, mean and rstd of the batch, the gradient of x is
    gamma rstd (grad - mean(grad) - y mean(grad y)).
    """
    scale, _, mean, _, rstd = norm
    grad_beta, grad_gamma = sums[0], (sums[1] - mean * sums[0]) * rstd
    if not count:
        zero = torch.zeros_like(scale)
        return torch.stack((scale, zero, zero, scale * grad_beta, grad_gamma, grad_beta))
    b = -scale * rstd * grad_gamma / count
    c = -scale * (grad_beta - mean * rstd * grad_gamma) / count
    return torch.stack((scale, b, c, torch.zeros_like(scale), grad_gamma, grad_beta))


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    mean = x.mean(-1, keepdim=True)
    rstd = (((x - mean) ** 2).mean(-1, keepdim=True) + eps) ** -0.5
    return (x - mean) * rstd * gamma + beta, torch.stack((mean, rstd)).squeeze(-1)


def dwconv(x: Tensor, weight: Tensor, bias: Tensor | float) -> Tensor:
    """Depth-wise 3x3 convolution of (B, H, W, C), tap by tap."""
    B, H, W, C = x.shape
    padded = x.new_zeros(B, H + 2, W + 2, C)
    padded[:, 1:-1, 1:-1] = x
    taps = [padded[:, y : y + H, x : x + W] for y in range(3) for x in range(3)]
    return sum(tap * w for tap, w in zip(taps, weight.t(), strict=True)) + bias


def window_attention(
    qkv: Tensor, qkv_bias: Tensor, rel_pos_bias: Tensor | None, num_heads: int, window: list[int]
) -> Tensor:
    """Attend window by window on a map that is padded around its centre."""
    B, H, W, C = qkv.shape
    (Kh, Kw), D = window, C // 3 // num_heads
    rows, cols = -(-H // Kh), -(-W // Kw)
    top, left = (rows * Kh - H) // 2, (cols * Kw - W) // 2
    padded = qkv_bias.expand(B, rows * Kh, cols * Kw, C).clone()
    padded[:, top : top + H, left : left + W] = qkv
    out = padded.new_zeros(*padded.shape[:3], C // 3)
    for y in range(0, rows * Kh, Kh):
        for x in range(0, cols * Kw, Kw):
            tokens = padded[:, y : y + Kh, x : x + Kw].reshape(B, Kh * Kw, 3, num_heads, D)
            q, k, v = tokens.permute(2, 0, 3, 1, 4)
            logits = q @ k.transpose(-1, -2) / math.sqrt(D)
            logits = logits if rel_pos_bias is None else logits + rel_pos_bias
            result = (logits.softmax(-1) @ v).transpose(1, 2).reshape(B, Kh, Kw, -1)
            out[:, y : y + Kh, x : x + Kw] = result
    return out[:, top : top + H, left : left + W]


def gradients(function: Callable, grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of `function` with respect to its inputs."""
    with torch.enable_grad():
        inputs = [x.detach().clone().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*inputs), inputs, grad)


def tensors(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Generate tensors of random numbers."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator).to(dtype) for shape in shapes]


def double(values: Any) -> Any:
    """Convert the tensors among some values to float64."""
    return [x.double() if isinstance(x, Tensor) else x for x in values]


def check(name: str, args: tuple, expected: tuple | Tensor, parameters: tuple[int, ...]) -> tuple:
    """Compare a kernel with the float64 reference and with the plain form.

    In float32 both errors are below 1e-5, in other types, and where the plain form's own error
    comes near that, at most twice the plain form's. Parameters in float32 give no larger ones.

    Args:
        name: operator.
        args: its arguments, tensors of one type.
        expected: results of the reference.
        parameters: indices of the arguments that may be float32 beside maps of another type.

    Returns:
        The kernel's results.
    """
    plain = getattr(fused_ops, name).__wrapped__(*_copies(args))
    mixed = [x.float() if i in parameters else x for i, x in enumerate(args)]
    for arguments in (args, mixed) if args[0].dtype is not torch.float32 else (args,):
        ours = getattr(cuda, name)(*_copies(arguments))
        results = [(x,) if isinstance(x, Tensor) else x for x in (ours, plain, expected)]
        for result in zip(*results, strict=True):
            if result[0] is not None and result[0].numel():
                _compare(name, *result, dtype=args[0].dtype)
    return ours


def _copies(args: tuple) -> list:
    return [x.clone() if isinstance(x, Tensor) else x for x in args]


def _compare(
    name: str, ours: Tensor, plain: Tensor, expected: Tensor, dtype: torch.dtype
) -> None:  # fmt: skip
    assert ours.shape == expected.shape, name
    assert ours.dtype in (dtype, torch.float32, torch.float64)
    error, plain_error = (relative_error(x.double(), expected) for x in (ours, plain))
    # Gradients through softmax almost vanish where windows hold a single token: there the plain
    # form errs by up to 4e-5 in float32.
    limit = max(2 * plain_error, 1e-5 if dtype is torch.float32 else _NEGLIGIBLE)
    print(f'ERROR {name} {str(dtype)[6:]} {error:.1e} {plain_error:.1e}')
    assert error < limit, f'{name}: {error:.1e} {plain_error:.1e}'
    if dtype is torch.float32:
        assert relative_error(ours.double(), plain.double()) < 1e-5 + 2 * plain_error, name
