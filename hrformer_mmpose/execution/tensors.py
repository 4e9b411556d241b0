"""Helpers for the tensors of kernels, on any device."""

import torch


def tokens_and_channels(x: torch.Tensor) -> tuple[int, int]:
    """Return T and C of a tensor (..., C)."""
    return x.numel() // x.shape[-1], x.shape[-1]


def without_overlap(x: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Copy a tensor if it shares memory with `written`."""
    start, other = x.data_ptr(), written.data_ptr()
    overlaps = start < other + written.nbytes and other < start + x.nbytes
    return x.clone() if overlaps else x
