"""Compile the kernels as their launchers would, for GPUs that are not there.

    python -m tests.execution.cuda.compilation

prints registers and spilled bytes of each kernel, width and GPU. TRITON_INTERPRET must not be set.

Shapes: C channels, D = 4 C hidden channels of the FFN, h heads.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hrformer_mmpose.execution import cuda

CAPABILITIES = (75, 80, 86, 89, 90, 100)
# HRFormer-B and -S: widths of the branches, and heads in the first one.
WIDTHS = {78: 2, 156: 4, 312: 8, 624: 16, 32: 1, 64: 2, 128: 4, 256: 8}
TYPES = {
    torch.float16: 'fp16',
    torch.bfloat16: 'bf16',
    torch.float32: 'fp32',
    torch.float64: 'fp64',
    torch.int64: 'i64',
}
FILES = ('common', *sorted(set(cuda._FILES.values())))
CUOBJDUMP = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'


class Launch(NamedTuple):
    """Arguments of `launch`."""

    kernel: Any
    args: tuple
    options: dict


class Usage(NamedTuple):
    """Registers of a thread, and bytes that it spills to memory."""

    registers: int
    spilled: int
    shared: int


def launches(name: str, width: int, dtype: torch.dtype, window: int = 7) -> list[Launch]:
    """Call an operator's launcher on tensors without memory and record its launches.

    Args:
        name: operator.
        width: C.
        dtype: type of maps; parameters are float32.
        window: side of attention's window.
    """
    recorded: list[Launch] = []

    def record(kernel, grid, *args, **options):
        recorded.append(Launch(kernel, args, options))

    modules = [cuda._kernels_of(file) for file in FILES]
    before = [module.launch for module in modules]
    try:
        for module in modules:
            module.launch = record
        for arguments in operator_arguments(name, width, dtype, window):
            getattr(cuda, name)(*arguments)
    finally:
        for module, launch in zip(modules, before, strict=True):
            module.launch = launch
    return recorded


def operator_arguments(name: str, width: int, dtype: torch.dtype, window: int) -> Iterator[tuple]:
    """Yield the arguments of an operator's calls in the first branch, batch 32."""
    C, h, size = width, WIDTHS[width], (32, 64, 48)

    def x(channels: int) -> torch.Tensor:
        return torch.empty(*size, channels, dtype=dtype, device='meta')

    def p(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device='meta')

    def wide(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device='meta', dtype=torch.float64)

    def norm(D: int) -> tuple:
        counter = torch.empty((), device='meta', dtype=torch.int64)
        return *(p(D) for _ in range(4)), counter, 0.1, 1e-5

    if name.startswith('layer_norm'):
        statistics = p(2, *size)
        yield (x(C), p(C), p(C), 1e-6) if name == 'layer_norm' else (
            x(C), statistics, p(C), x(C), x(C)
        )  # fmt: skip
    elif name.startswith('window_attention'):
        for images in (32, 1):  # many windows a program of the backward pass, or one
            grad = (x(C)[:images],) if name.endswith('backward') else ()
            table = p(h, window**2, window**2)
            yield x(3 * C)[:images], p(3 * C), table, *grad, h, [window, window]
    elif name.startswith('gelu_dwconv'):
        yield {
            'gelu_dwconv': lambda D: (x(D), p(D), p(D), p(D, 9), p(D), *norm(D)),
            'gelu_dwconv_gelu': lambda D: (x(D), p(D, 9), p(D)),
            'gelu_dwconv_backward': lambda D: (x(D), p(5, D), x(D), x(D), p(3, D), p(D, 9), True),
        }[name](4 * C)
    else:
        for D in (C, 4 * C):
            yield {
                'bn_gelu': lambda D: (x(D), p(D), p(D), x(D) if D == C else None),
                'bn_gelu_backward': lambda D: (x(D), x(D), p(5, D), True, D != C),
                'bn_backward_': lambda D: (x(D), x(D), p(3, D)),
                'bn_statistics': lambda D: (x(D), *norm(D)),
                'bn_from_moments': lambda D: (p(2, D), wide(1), *norm(D)),
                'bn_total_grads': lambda D: (wide(2, D), p(5, D), wide(2, D), wide(1)),
            }[name](D)


def usage(launch: Launch, capability: int) -> Usage:
    """Return what a launch uses, compiled for a compute capability (80 for 8.0)."""
    kernel = compiled(launch, capability)
    return _read_usage(kernel.asm['cubin'], kernel.metadata.shared)


def compiled(launch: Launch, capability: int) -> Any:
    """Compile a launch for a compute capability as Triton would at the call."""
    names = launch.kernel.arg_names
    options = dict(launch.options)
    values = dict(zip(names, launch.args, strict=False))
    values |= {name: options.pop(name) for name in names if name in options}
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(names):
        signature[name] = _type(values[name], launch.kernel.params[i])
        if signature[name] == 'constexpr':
            constants[name] = values[name]
        elif _is_divisible(values[name], launch.kernel.params[i]):
            attributes[(i,)] = [['tt.divisibility', 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    options = dict(num_warps=4, num_stages=1, enable_fp_fusion=True) | options
    return triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)


def _type(value: Any, parameter: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f'*{TYPES[value.dtype]}'
    if isinstance(value, float):
        return 'fp32'
    is_one = value == 1 and not parameter.do_not_specialize
    if parameter.is_constexpr or value is None or is_one:
        return 'constexpr'
    return 'i32' if abs(value) < 2**31 else 'i64'


def _is_divisible(value: Any, parameter: Any) -> bool:
    """Return whether Triton compiles for a multiple of 16; memory of PyTorch's is aligned so."""
    if isinstance(value, torch.Tensor):
        return True
    return isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize


def _read_usage(cubin: bytes, shared: int) -> Usage:
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [CUOBJDUMP, '--dump-resource-usage', file.name],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    registers, stack, local = (
        int(re.search(rf'{key}:(\d+)', text)[1]) for key in ('REG', 'STACK', 'LOCAL')
    )
    return Usage(registers, stack + local, shared)


def main() -> None:
    """Print the table of registers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--types', nargs='+', default=['fp16'], choices=TYPES.values())
    parser.add_argument('--widths', nargs='+', type=int, default=list(WIDTHS))
    parser.add_argument('--capabilities', nargs='+', type=int, default=CAPABILITIES)
    parser.add_argument('--operators', nargs='+', default=sorted(cuda._FILES))
    args = parser.parse_args()
    for dtype in (key for key, value in TYPES.items() if value in args.types):
        for name in args.operators:
            for width in args.widths:
                _print_row(name, width, dtype, args.capabilities)


def _print_row(name: str, width: int, dtype: torch.dtype, capabilities: list[int]) -> None:
    for launch in launches(name, width, dtype):
        row = [f'{name:26}{launch.kernel.__name__:26}{TYPES[dtype]:5}{width:4}']
        for capability in capabilities:
            if name in cuda.kernels(divmod(capability, 10)):
                used = usage(launch, capability)
                spilled = f'+{used.spilled}' if used.spilled else ''
                row.append(f'{capability}: {used.registers}{spilled}/{used.shared}')
        print('  '.join(row), flush=True)


if __name__ == '__main__':
    main()
