"""Check an operator's arguments before a kernel gets pointers to them.

`torch.ops.hrformer_mmpose.NAME` is public, and a kernel trusts the sizes that it is given.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

_CONSTANTS = {'1': 1, '2': 2, '3': 3, '5': 5, '9': 9}
_PREFIXES = {'f32:': torch.float32, 'f64:': torch.float64, 'i64:': torch.int64}
# Sizes that may not be 0: a mean over no channels is none, nor has a map without pixels a value.
_POSITIVE = frozenset(('C', 'D', 'H1', 'W1', 'H2', 'W2', 'H3', 'W3'))
_MAX_TOKENS = 2**15  # of a window: its attention maps then take 4 GiB a head


class Dtypes(NamedTuple):
    """Types of an operator's tensors."""

    activation: torch.dtype | None  # of all tensors with values per token; None if they differ
    parameters: frozenset[torch.dtype]  # of all others, except those of one fixed type


class ArgumentCheck:
    """Check of the sizes, types and devices of an operator's arguments.

    Args:
        schema: schema of the operator.
        shapes: sizes of each tensor argument, as in 'B H W C'. A letter is the same size in all
            tensors, '...' the same axes, any number of them; digits stand for themselves. 'f32:'
            before the sizes requires float32, 'f64:' float64, 'i64:' int64.
    """

    def __init__(self, schema: torch.FunctionSchema, shapes: dict[str, str]):
        self.name = schema.name
        self.names = [argument.name for argument in schema.arguments]
        self.shapes = {argument: shape.split(':')[-1].split() for argument, shape in shapes.items()}
        self.dtypes = {
            argument: _PREFIXES[shape[:4]]
            for argument, shape in shapes.items()
            if shape[:4] in _PREFIXES
        }

    def __call__(self, args: tuple) -> 'Dtypes':
        """Check all arguments.

        Args:
            args: arguments in the order of the schema.

        Returns:
            The types of the tensors.

        Raises:
            ValueError: a number is out of range, or sizes do not agree.
            RuntimeError: a tensor has a type, layout or device that the operator does not take.
        """
        properties = tuple([_properties(x) for x in args])
        if not args[0].is_cpu:  # under torch.compile sizes may be symbols, which have no hash
            return _compare.__wrapped__(self, properties)
        dtypes = _compare(self, properties)
        for argument, x in zip(self.names, args, strict=False):
            if isinstance(x, torch.Tensor) and not _is_within_storage(x):
                raise RuntimeError(f'{self.name}: the memory of {argument} was resized')
        return dtypes

    def gradients(self, args: tuple) -> None:
        """Check that no gradient is required: PyTorch would only warn and return zeros.

        Args:
            args: arguments in the order of the schema.

        Raises:
            RuntimeError: a tensor requires a gradient or has a forward-mode one.
        """
        forward = forward_ad._current_level >= 0
        backward = torch.is_grad_enabled()
        if not forward and not backward:
            return
        for argument, x in zip(self.names, args, strict=False):
            if argument not in self.shapes or x is None:
                continue
            tangent = forward_ad.unpack_dual(x).tangent if forward else None
            if tangent is not None or (backward and x.requires_grad):
                raise RuntimeError(
                    f'{self.name}: {argument} requires grad, but the operator has no derivative: '
                    'detach it'
                )


def _is_within_storage(x: torch.Tensor) -> bool:
    """Return whether a tensor lies within its storage, which may have been resized."""
    numbers = x.numel()
    if numbers and not x.is_contiguous():
        numbers = 1 + sum((n - 1) * k for n, k in zip(x.shape, x.stride(), strict=True))
    return x.untyped_storage().nbytes() >= (x.storage_offset() + numbers) * x.itemsize


def _properties(x: Any) -> Any:
    """Return the checked properties of an argument, in hashable form."""
    if isinstance(x, torch.Tensor):
        return x.shape, x.dtype, x.layout, x.device
    return tuple(x) if isinstance(x, list) else x


@functools.lru_cache(maxsize=1024)  # takes a tenth of the time
def _compare(check: ArgumentCheck, properties: tuple) -> Dtypes:
    arguments = dict(zip(check.names, properties, strict=False))
    sizes = _CONSTANTS | _sizes_from_numbers(check.name, arguments)
    tensors = {name: arguments[name] for name in check.shapes if arguments.get(name) is not None}
    device = properties[0][3]
    for argument, (shape, dtype, layout, other) in tensors.items():
        expected = check.shapes[argument]
        if layout is not torch.strided:
            raise RuntimeError(f'{check.name}: {argument} is {layout}, expected a dense tensor')
        if argument in check.dtypes and dtype is not check.dtypes[argument]:
            expected_dtype = str(check.dtypes[argument]).removeprefix('torch.')
            raise RuntimeError(f'{check.name}: {argument} is {dtype}, expected {expected_dtype}')
        if argument not in check.dtypes and not dtype.is_floating_point:
            raise RuntimeError(f'{check.name}: {argument} is {dtype}, expected real numbers')
        if other != device:
            raise RuntimeError(f'{check.name}: {argument} is on {other}, not on {device}')
        if not _fits(shape, expected, sizes):
            named = [f'{x}={sizes[x]}' if x in sizes.keys() - _CONSTANTS else x for x in expected]
            raise ValueError(
                f'{check.name}: {argument} has the shape {tuple(shape)}, expected '
                f'({", ".join(named)})'
            )
    activations, parameters = set(), set()
    for argument, (_, dtype, *_) in tensors.items():
        if argument in check.dtypes:
            continue
        is_activation = check.shapes[argument][0] in ('B', '...')
        (activations if is_activation else parameters).add(dtype)
    # An operator without activations names the type of its result, or is one on parameters alone.
    activations = activations or {arguments.get('dtype', torch.float32)}
    return Dtypes(activations.pop() if len(activations) == 1 else None, frozenset(parameters))


def _sizes_from_numbers(name: str, arguments: dict[str, Any]) -> dict[str, int]:
    """Check the numbers among the arguments and return the sizes that follow from them."""
    if not 0 <= arguments.get('eps', 0.0) < math.inf:
        raise ValueError(f'{name}: eps={arguments["eps"]} must be finite and at least 0')
    if arguments.get('stride', 1) < 1:
        raise ValueError(f'{name}: stride={arguments["stride"]} must be at least 1')
    if (arguments.get('scale') is None) != (arguments.get('offset') is None):
        raise ValueError(f'{name}: scale and offset go together')
    if 'window' not in arguments:
        return {}
    num_heads, window = arguments['num_heads'], arguments['window']
    tokens, channels = math.prod(window), _qkv_channels(arguments)
    if num_heads < 1 or channels % num_heads:
        raise ValueError(f'{name}: num_heads={num_heads} must divide C={channels}')
    if min(window) < 1 or tokens > _MAX_TOKENS:
        raise ValueError(f'{name}: window={window} must have 1 to {_MAX_TOKENS} tokens')
    return {'C': channels, '3C': 3 * channels, 'h': num_heads, 'N': tokens}


def _qkv_channels(arguments: dict[str, Any]) -> int:
    """Return C, from queries, keys and values or from the stream that they are computed of."""
    if 'qkv' in arguments:
        return arguments['qkv'][0][-1:].numel() // 3
    return arguments['stream'][0][-1:].numel()


def _fits(shape: torch.Size, expected: list[str], sizes: dict) -> bool:
    """Return whether a shape is the expected one; add the sizes that it determines to `sizes`."""
    if '...' in expected:
        start = expected.index('...')
        end = start + len(shape) - len(expected) + 1
        if end < start or sizes.setdefault('...', shape[start:end]) != shape[start:end]:
            return False
        shape, expected = shape[:start] + shape[end:], [x for x in expected if x != '...']
    return (
        len(shape) == len(expected)
        and all(sizes.setdefault(x, n) == n for x, n in zip(expected, shape, strict=True))
        and all(sizes.get(x) != 0 for x in _POSITIVE)
    )
