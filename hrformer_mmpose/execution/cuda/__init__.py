"""Kernels of the fused operators for CUDA devices; there are none yet.

A function in this module that has the name of an operator in `fused_ops/`, say `gelu_dwconv` as a
launcher of a Triton kernel, becomes the operator's form for CUDA tensors: `fused_ops` registers it
under PyTorch's CUDA key, as it registers the functions of `cpu/` under the CPU key. An operator
without such a function takes its plain form.

A kernel gets the operator's arguments: contiguous float32 tensors whose sizes and device have been
checked, and None for optional ones left out. It returns the same values as the plain form. The
decisions of `policy` which name the CPU (`may_recompute_attention`, `use_fused_ops`) then need a
case for CUDA.
"""

import torch

DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))


def available(name: str) -> bool:
    """Return whether the kernel of an operator can run on this machine."""
    return torch.cuda.is_available()
