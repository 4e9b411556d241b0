"""Registration of the fused operators, `torch.ops.hrformer_mmpose.NAME`, with PyTorch.

PyTorch dispatches a call by the tensors' device: to the kernel under the device's key, or to the
plain form, which is registered for all devices (CompositeExplicitAutograd). An operator has no
derivative and raises an error if one is required.
"""

import functools
from collections.abc import Callable
from types import ModuleType

import torch

from . import policy
from .argument_check import ArgumentCheck, Dtypes

_library = torch.library.Library('hrformer_mmpose', 'DEF')
_operators: dict[str, '_Operator'] = {}


def operator(schema: str, **shapes: str) -> Callable:
    """Register the decorated function as the plain form of an operator of its name.

    The resulting function calls the operator if `policy` allows kernels. Elsewhere it runs the
    plain form itself, which PyTorch can differentiate, trace and compile.

    Args:
        schema: arguments and results in PyTorch's schema language.
        shapes: sizes of each tensor argument, see `ArgumentCheck`.
    """

    def register(plain: Callable) -> Callable:
        op = _operators[plain.__name__] = _Operator(plain, schema, shapes)

        @functools.wraps(plain)
        def function(*args, **kwargs):
            if policy.allows_kernels(args[0].device.type):
                with torch._C._AutoDispatchBelowAutograd():  # no gradients: skips a check
                    return op.overload(*args, **kwargs)
            return plain(*args, **kwargs)

        return function

    return register


def register_kernels(dispatch_key: str, backend: ModuleType) -> None:
    """Register the kernels of a backend for one device.

    Args:
        dispatch_key: PyTorch's key of the device: 'CPU', 'CUDA', ...
        backend: module with kernels, a function `available(name, dtype)` and `DTYPES`, the types of
            activations that the kernels take. A kernel has the name of its operator and gets
            contiguous tensors; parameters have the activations' type or float32.
    """
    for name, op in _operators.items():
        if kernel := getattr(backend, name, None):
            op.register(dispatch_key, backend, kernel)


class _Operator:
    def __init__(self, plain: Callable, schema: str, shapes: dict[str, str]):
        self.name, self.plain = plain.__name__, plain
        _library.define(f'{self.name}{schema}')
        self.overload = getattr(torch.ops.hrformer_mmpose, self.name).default
        self.check = ArgumentCheck(self.overload._schema, shapes)
        self.written = [
            index
            for index, argument in enumerate(self.overload._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        _library.impl(self.name, self._refuse_gradients, 'Autograd', with_keyset=True)
        _library.impl(self.name, self._run_plain, 'CompositeExplicitAutograd')

    def register(self, dispatch_key: str, backend: ModuleType, kernel: Callable) -> None:
        run = functools.partial(self._run_kernel, backend, kernel)
        _library.impl(self.name, run, dispatch_key)

    def _refuse_gradients(self, keys: torch._C.DispatchKeySet, *args):
        self.check.gradients(args)
        return self.overload.redispatch(keys & torch._C._after_autograd_keyset, *args)

    def _run_plain(self, *args):
        self._prepare(args)
        return self.plain(*args)

    def _run_kernel(self, backend: ModuleType, kernel: Callable, *args):
        activation, parameters = self._prepare(args)
        # An operator in place has to write to the tensor that it is given.
        takes_layout = all(x.is_contiguous() for x in self._written(args))
        takes_dtypes = activation in backend.DTYPES and parameters <= {activation, torch.float32}
        if not (takes_dtypes and takes_layout and backend.available(self.name, activation)):
            return self.plain(*args)
        return kernel(*(x.contiguous() if isinstance(x, torch.Tensor) else x for x in args))

    def _prepare(self, args: tuple) -> Dtypes:
        dtypes = self.check(args)
        for x in self._written(args):
            if not x.is_inference():
                torch.autograd.graph.increment_version(x)
        return dtypes

    def _written(self, args: tuple) -> list[torch.Tensor]:
        return [args[i] for i in self.written if args[i] is not None]
