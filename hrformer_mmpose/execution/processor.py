"""Types in which this machine's processor has instructions for products."""

import functools
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Names of instruction sets as PyTorch and Linux spell them, without underscores.
_INSTRUCTIONS = {
    torch.bfloat16: ('avx512bf16', 'amxbf16'),
    torch.float16: ('avx512fp16', 'amxfp16'),
}


_state = {'is_ignored': False}


def half_types() -> frozenset[torch.dtype]:
    """Return the half-precision types that the processor multiplies in; empty if unknown.

    oneDNN computes in bfloat16 on older processors, too, slower than in float32.
    """
    return frozenset() if _state['is_ignored'] else _half_types()


@functools.cache
def _half_types() -> frozenset[torch.dtype]:
    names = instructions()
    return frozenset(dtype for dtype, sets in _INSTRUCTIONS.items() if names.intersection(sets))


@contextmanager
def without_half_types() -> Iterator[None]:
    """Compute as on a processor without half precision, for counts that must not depend on it."""
    before, _state['is_ignored'] = _state['is_ignored'], True
    try:
        yield
    finally:
        _state['is_ignored'] = before


@functools.cache
def instructions() -> frozenset[str]:
    """Return the processor's instruction sets, in lower case without underscores."""
    if hasattr(torch.cpu, 'get_capabilities'):  # since PyTorch 2.10
        return _spell(name for name, has in torch.cpu.get_capabilities().items() if has is True)
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return frozenset()
    return _spell(next((line for line in lines if line.startswith('flags')), '').split())


@functools.cache
def name() -> str:
    """Return the processor's name, to tell machines that share a home folder apart."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    found = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(found, platform.processor())


def describe() -> str:
    """Return one line on half precision for `hrformer doctor`."""
    types = sorted(str(dtype).removeprefix('torch.') for dtype in half_types())
    if types:
        return f'{platform.machine()} with instructions for {" and ".join(types)}'
    return f'{platform.machine()} without instructions for bfloat16 or float16'


def _spell(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower().replace('_', '') for name in names)
