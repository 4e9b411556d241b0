"""BatchNorm's arithmetic on (C) numbers, which plain forms and CPU kernels share."""

import torch


def fold(
    mean: torch.Tensor,
    var: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    num_batches: torch.Tensor | None,
    momentum: float,
    eps: float,
    count: float | torch.Tensor,
) -> torch.Tensor:
    """Fold a BatchNorm into scale and offset; update its running statistics.

    Args:
        mean: (C).
        var: (C), biased variance.
        gamma: (C), learned scale.
        beta: (C), learned offset.
        running_mean: (C), updated; None for no update.
        running_var: (C), updated; None for no update.
        num_batches: counter of training steps, increased by one; None for none.
        momentum: weight of mean and variance in the running statistics.
        eps: added to the variance.
        count: tokens behind mean and variance; (1) on the device where only that knows it.

    Returns:
        (5, C): scale, offset, mean, variance, 1 / standard deviation.
    """
    if num_batches is not None:
        num_batches.add_(1)
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        others = count - 1
        others = others.clamp(min=1) if isinstance(others, torch.Tensor) else max(others, 1)
        running_var.lerp_((var * (count / others)).to(running_var.dtype), momentum)
    rstd = (var + eps).rsqrt()
    scale = gamma * rstd
    return torch.stack((scale, torch.addcmul(beta, mean, scale, value=-1), mean, var, rstd))


def gradients(
    sums: torch.Tensor,
    norm: torch.Tensor,
    count: float | torch.Tensor,
    total_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute a BatchNorm's gradients from sums over tokens.

    Args:
        sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.
        norm: (5, C), result of `fold`.
        count: tokens behind the statistics; 0 for running statistics, which have no gradient.
        total_sums: (2, C) in float64, `sums` of all processes that share the statistics.

    Returns:
        (6, C): coefficients a, b and c of the input's gradient, a grad + b x + c; the gradients of
        a bias added to x, of gamma and of beta.
    """
    scale, _, mean, _, rstd = norm.double()
    grad_beta, total_beta = sums[0], (sums if total_sums is None else total_sums)[0]
    grad_gamma = total_gamma = (sums[1] - mean * grad_beta) * rstd
    if total_sums is not None:
        total_gamma = (total_sums[1] - mean * total_beta) * rstd
    b = c = grad_bias = torch.zeros_like(scale)  # the norm subtracts the mean
    if isinstance(count, torch.Tensor) or count:
        b = scale * rstd * total_gamma / -count
        c = scale * total_beta / -count - b * mean
    else:
        grad_bias = scale * grad_beta
    grads = torch.stack((scale, b, c, grad_bias, grad_gamma, grad_beta))
    return grads.to(torch.promote_types(norm.dtype, torch.float32))
