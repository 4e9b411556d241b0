"""Tests of the kernels in Triton's interpreter, on CPU tensors.

Triton decides at its import whether it interprets: `test_interpreter.py` therefore runs this folder
in a process of its own. By hand: TRITON_INTERPRET=1 pytest tests/execution/cuda/interpreted
"""

import os

import pytest
import torch

if os.environ.get('TRITON_INTERPRET') != '1':
    collect_ignore_glob = ['test_*']


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def _bfloat16_as_on_devices(monkeypatch):
    """Let the interpreter (Triton 3.9) round to bfloat16 and multiply it as GPUs do.

    It truncates, which doubles the error, and multiplies bfloat16 as if it were integers.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    convert, builder = interpreter._convert_float, interpreter.InterpreterBuilder
    dot = builder.create_dot

    def convert_float(x, from_type, to_type, rounding):
        if (from_type, to_type) != (tl.float32, tl.bfloat16):
            return convert(x, from_type, to_type, rounding)
        rounded = torch.from_numpy(x.view('float32').copy()).bfloat16()
        return rounded.view(torch.int16).numpy().view('uint16')

    def create_dot(self, a, b, *args):
        if a.dtype == tl.bfloat16:
            a, b = (self.cast_impl(x, tl.float32) for x in (a, b))
        return dot(self, a, b, *args)

    monkeypatch.setattr(interpreter, '_convert_float', convert_float)
    monkeypatch.setattr(builder, 'create_dot', create_dot)
