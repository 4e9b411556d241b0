"""Losses of segmentation heads.

Shapes: B batch, K classes, H and W of the masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = 255
) -> Tensor:
    """Compute the mean cross entropy of the valid pixels; 0, not NaN, if there are none.

    Args:
        logits: (B, K, H, W).
        target: class of each pixel, or `ignore_index`, (B, H, W).
        weight: of each class, (K,); the mean is then a weighted one.
        ignore_index: label of pixels that do not count.
    """
    total = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction='sum')
    valid = target != ignore_index
    counts = valid if weight is None else weight[target.masked_fill(~valid, 0)] * valid
    number = counts.sum()
    return total / number.where(number > 0, 1)


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    threshold: float,
    min_kept: int = 100_000,
    weight: Tensor | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Compute the mean cross entropy of hard pixels (online hard example mining).

    Hard is a pixel whose true class has a probability below `threshold`. If there are fewer than
    `min_kept` in the batch, the `min_kept` least probable pixels are the hard ones. As in the
    authors' code, class weights scale the loss of a pixel but not the number that it is divided by.

    Args:
        logits: (B, K, H, W).
        target: class of each pixel, or `ignore_index`, (B, H, W).
        threshold: probability, in (0, 1].
        min_kept: number of pixels of the batch.
        weight: of each class, (K,).
        ignore_index: label of pixels that do not count.

    Returns:
        A scalar; 0 without hard pixels, where the authors' code gives NaN.
    """
    losses = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction='none')
    valid = target != ignore_index
    with torch.no_grad():
        index = target.masked_fill(~valid, 0)[:, None]
        probability = logits.float().softmax(1).gather(1, index)[:, 0]
        probability = probability.masked_fill(~valid, torch.inf)
        rank = (valid.sum() - 1).clamp(0, min_kept)
        ranked = probability.flatten().sort().values
        hard = probability < ranked.gather(0, rank[None]).clamp(min=threshold)
    return (losses * hard).sum() / hard.sum().clamp(min=1)
