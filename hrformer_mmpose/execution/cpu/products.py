"""Measure once per shape and machine which library multiplies faster: oneDNN or ATen's (MKL).

Which one it is depends on the processor: with AVX-512 oneDNN reached twice MKL's rate for weights
in its own layout, with AVX2 the order was reversed. The first product of a shape times both in a
few milliseconds. The cache folder keeps the times beside the kernels, in a file for the processor
and PyTorch's version; without a folder to write to they are measured in each process.

Shapes: T tokens, C and D channels in and out.
"""

import functools
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from ...cache import is_private
from .. import processor
from . import build

SWITCH = 'HRFORMER_TUNING'
BUDGET = 1.0  # seconds of measurement in a process, after which the fixed rules decide
LAYOUTS = ('plain', 'transposed', 'packed')
_LEAST_WORK = 10**7  # multiply-adds below which a product is not worth a measurement
_MOST_WORK = 5 * 10**7  # of a timed product; rates hardly depend on T beyond it
_LEAST_TOKENS = 64
_ROUNDS = 4
_MARGIN = 1.1  # by which a library must be faster to replace the rule's: machines are busy at times

_times: dict[str, list[float]] = {}  # by `_key`, seconds of oneDNN and of ATen
_state: dict = {'loaded': False, 'spent': 0.0}


def onednn_is_faster(T: int, C: int, D: int, layout: str, rule: bool) -> bool:
    """Return whether oneDNN is faster for x W^T + b in float32, and measure it if necessary.

    Args:
        T: tokens.
        C: channels in.
        D: channels out.
        layout: of the weight (D, C), one of `LAYOUTS`: contiguous, a transposed view, or prepared
            for oneDNN, which ATen's product takes contiguous.
        rule: answer if the measurement does not contradict it clearly, or there is none: the
            product is small, the time for measurements is spent, they are switched off, or PyTorch
            was asked for deterministic algorithms.
    """
    if T * C * D < _LEAST_WORK or not enabled():
        return rule
    T = _rounded(T, C, D)
    key = f'{T} {C} {D} {layout}, {torch.get_num_threads()} threads'
    if not _state['loaded']:
        _state['loaded'] = True
        _times.update(_read())
    if key not in _times:
        if _state['spent'] >= BUDGET:
            return rule
        _times[key] = _measure(T, C, D, layout)
        _write()
    onednn, aten = _times[key]
    return onednn < aten * _MARGIN if rule else onednn * _MARGIN < aten


def enabled() -> bool:
    """Return whether products may be measured."""
    return os.environ.get(SWITCH) != '0' and not torch.are_deterministic_algorithms_enabled()


def describe() -> str:
    """Return one line for `hrformer doctor`."""
    if os.environ.get(SWITCH) == '0':
        return f'not measured ({SWITCH}=0)'
    times = _read()
    if not times:
        return 'not measured yet: the first network does it'
    wins = sum(onednn < aten for onednn, aten in times.values())
    return f"oneDNN was faster for {wins} of {len(times)} measured shapes ('{_path()}')"


def _rounded(T: int, C: int, D: int) -> int:
    """Return the tokens to measure: a power of two, so that few batch sizes are measured."""
    most = max(_LEAST_TOKENS, _MOST_WORK // (C * D))
    return 1 << (min(T, most).bit_length() - 1)


def _measure(T: int, C: int, D: int, layout: str) -> list[float]:
    start = time.perf_counter()
    with _disable_current_modes(), torch.no_grad():  # counts of operators leave it out
        onednn, aten = _products(T, C, D, layout)
        best = [float('inf')] * 2
        for index in range(1 + _ROUNDS):
            for number, product in enumerate((onednn, aten)):
                began = time.perf_counter()
                product()
                if index:
                    best[number] = min(best[number], time.perf_counter() - began)
    _state['spent'] += time.perf_counter() - start
    return best


def _products(T: int, C: int, D: int, layout: str) -> tuple[Callable, Callable]:
    # Constants: random numbers would change the state of the generator.
    full = functools.partial(torch.full, fill_value=0.5, dtype=torch.float32, device='cpu')
    x, weight, bias = full((T, C)), full((D, C)), full((D,))
    if layout == 'transposed':
        weight = full((C, D)).t()
    of_onednn = weight
    if layout == 'packed':
        of_onednn = torch.ops.mkldnn._reorder_linear_weight(weight)
    multiply = torch.ops.mkldnn._linear_pointwise
    return (
        lambda: multiply(x, of_onednn, bias, 'none', [], 'none'),
        lambda: F.linear(x, weight, bias),
    )


def _path() -> Path:
    names = ' '.join(sorted(processor.instructions()))
    machine = f'{torch.__version__} {processor.name()} {names}'
    digest = hashlib.sha256(machine.encode()).hexdigest()[:16]
    return build.cache_folder() / f'products-{digest}.json'


def _read() -> dict[str, list[float]]:
    """Read the file; nothing if it is missing, damaged, or another user may have written it."""
    try:
        # Neither follow a link nor wait for a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(_path(), flags), encoding='utf-8') as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not is_private(status):
                return {}
            content = json.load(file)
        return {key: [float(a), float(b)] for key, (a, b) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, build.Unavailable):
        return {}


def _write() -> None:
    """Add the times to the file, atomically; a folder that cannot be written to is no error."""
    try:
        path = _path()
        content = json.dumps(_read() | _times, indent=1)
        with tempfile.NamedTemporaryFile('w', dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    except (OSError, build.Unavailable):
        return
