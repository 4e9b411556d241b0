"""An unpickler that runs no code: it builds tensors, NumPy arrays and plain values, nothing else.

Python's unpickler and PyTorch's restricted one call what the file names, with the file's arguments.
A crafted NumPy dtype or a stride of zero then reaches C code. This one interprets the opcodes
itself: a name stands for a function of `builders` and `arrays`, and everything is checked against
the file's size before it is built.
"""

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

from . import arrays
from .arrays import Storage
from .builders import ENTRY, NAMES, History, Name, Settings, checked_key, nothing
from .limits import MAX_OPCODES, SHARING, SLACK, bounded, check_nesting


class UnsafeError(pickle.UnpicklingError):
    """The file refers to code; `names` are the 'module.name' of each reference."""

    def __init__(self, names: list[str]):
        super().__init__(', '.join(names))
        self.names = names


class Unpickler:
    """Read one pickle of any protocol.

    Args:
        file: where the pickle begins; afterwards behind its end.
        size: bytes of the whole file, which bound what is built.
        load_storage: persistent id -> `Storage`.
    """

    def __init__(self, file: BinaryIO, size: int, load_storage: Callable[[tuple], Storage]):
        self._file, self._load_storage = file, load_storage
        self._left = SHARING * size + SLACK
        self._steps = 0
        self._stack: list[Any] = []
        self._marks: list[list] = []
        self._memo: dict[int, Any] = {}
        self._unsafe: dict[str, None] = {}

    def load(self) -> Any:
        """Return the object.

        Raises:
            UnsafeError: the pickle names code.
            arrays.UnsupportedError: it holds a tensor of a kind that networks here do not have.
            pickle.UnpicklingError, ValueError, IndexError, ...: it is damaged.
        """
        try:
            content = self._run()
        except arrays.UnsupportedError:
            raise
        except Exception as error:
            if self._unsafe:  # the rest depends on an unknown object
                raise UnsafeError([*self._unsafe]) from error
            raise
        if self._unsafe:
            raise UnsafeError([*self._unsafe])
        check_nesting(content, SHARING * self._steps + 100_000)
        return content

    def _run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._file):
            self._steps += 1
            if self._steps > MAX_OPCODES:
                raise pickle.UnpicklingError(f'more than {MAX_OPCODES:,} values')
            actions = _SKIPPING if self._unsafe else _ACTIONS
            action = actions.get(opcode.name)
            if action is not None:
                action(self, argument)
            elif opcode.name in _VALUES:
                self._stack.append(bounded(argument))
            else:
                raise pickle.UnpicklingError(f'opcode {opcode.name}')
        return self._stack.pop()

    def spend(self, size: int) -> None:
        """Count `size` bytes against the limit."""
        self._left -= size
        if self._left < 0:
            raise pickle.UnpicklingError('its contents are larger than the file')

    # Opcodes.

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _collect(self, make: Callable[[list], Any]) -> None:
        items = self._pop_mark()
        self._stack.append(make(items))

    def _tuple(self, length: int) -> None:
        items = self._stack[-length:]
        if len(items) != length:
            raise pickle.UnpicklingError('values are missing')
        self._stack[-length:] = [tuple(items)]

    def _extend(self, items: list) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise pickle.UnpicklingError(f'items of a {type(target).__name__}')
        target.extend(items)

    def _set_items(self, items: list) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f'entries of a {type(target).__name__}')
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def _add_items(self, items: list) -> None:
        if type(self._stack[-1]) is not set:
            raise pickle.UnpicklingError(f'members of a {type(self._stack[-1]).__name__}')
        self._stack[-1].update(map(checked_key, items))

    def _two(self) -> list:
        items = self._stack[-2:]
        del self._stack[-2:]
        return items

    def _memoize(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _stack_global(self, _: Any) -> None:
        module, name = self._two()
        if type(module) is not str or type(name) is not str:
            raise pickle.UnpicklingError('a name that is no text')
        self._global(f'{module} {name}')

    def _global(self, argument: str) -> None:
        name = argument.replace(' ', '.')
        if name.startswith('__builtin__.'):  # protocol 2 writes Python 2's name of the module
            name = name.replace('__builtin__', 'builtins', 1)
        value = arrays.dtype_named(name) or NAMES.get(name)
        if value is None:
            self._unsafe[name] = None
            value = Name(name, nothing)
        self._stack.append(value)

    def _reduce(self, _: Any) -> None:
        callee, arguments = self._two()
        if not isinstance(callee, Name) or type(arguments) is not tuple:
            raise pickle.UnpicklingError('a call of no function')
        self._stack.append(callee.build(self, *arguments))

    def _build(self, _: Any) -> None:
        target, state = self._two()
        if isinstance(target, History):
            vars(target).update(self._entries(state))
        elif isinstance(target, Settings):
            target.update(self._entries(state))
        elif isinstance(target, arrays.NumpyType):
            target.set_state(state)
        elif isinstance(target, arrays.np.ndarray):
            arrays.set_state(self, target, state)
        elif not isinstance(target, OrderedDict):  # whose state is a note on versions
            raise pickle.UnpicklingError(f'a state of {type(target).__name__}')
        self._stack.append(target)

    def _entries(self, state: Any) -> dict:
        if type(state) is not dict or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError('the attributes of an object')
        self.spend(ENTRY * len(state))
        return state

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._load_storage(self._stack.pop()))


_VALUES = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
    *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE'),
    *('BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
}


def _push(make: Callable[[], Any]) -> Callable[[Unpickler, Any], None]:
    return lambda reader, _: reader._stack.append(make())


def _get(reader: Unpickler, index: int) -> None:
    if index not in reader._memo:
        raise pickle.UnpicklingError(f'there is no value {index}')
    reader._stack.append(reader._memo[index])


_ACTIONS: dict[str, Callable[[Unpickler, Any], Any]] = {
    **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), nothing),
    **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), Unpickler._memoize),
    **dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), _get),
    **dict.fromkeys(('REDUCE', 'NEWOBJ'), Unpickler._reduce),
    'NONE': _push(lambda: None),
    'NEWTRUE': _push(lambda: True),
    'NEWFALSE': _push(lambda: False),
    'EMPTY_DICT': _push(dict),
    'EMPTY_LIST': _push(list),
    'EMPTY_SET': _push(set),
    'EMPTY_TUPLE': _push(tuple),
    'MARK': Unpickler._mark,
    'POP': Unpickler._pop,
    'POP_MARK': lambda reader, _: reader._pop_mark(),
    'DUP': lambda reader, _: reader._stack.append(reader._stack[-1]),
    'TUPLE': lambda reader, _: reader._collect(tuple),
    'TUPLE1': lambda reader, _: reader._tuple(1),
    'TUPLE2': lambda reader, _: reader._tuple(2),
    'TUPLE3': lambda reader, _: reader._tuple(3),
    'LIST': lambda reader, _: reader._collect(list),
    'APPEND': lambda reader, _: reader._extend([reader._stack.pop()]),
    'APPENDS': lambda reader, _: reader._extend(reader._pop_mark()),
    'SETITEM': lambda reader, _: reader._set_items(reader._two()),
    'SETITEMS': lambda reader, _: reader._set_items(reader._pop_mark()),
    'ADDITEMS': lambda reader, _: reader._add_items(reader._pop_mark()),
    'GLOBAL': Unpickler._global,
    'STACK_GLOBAL': Unpickler._stack_global,
    'BUILD': Unpickler._build,
    'BINPERSID': Unpickler._persistent,
}
# With an unknown name nothing more is built; the rest is read for further names.
_SKIPPING: dict[str, Callable[[Unpickler, Any], Any]] = {
    **_ACTIONS,
    **dict.fromkeys(('REDUCE', 'NEWOBJ', 'BUILD', 'APPEND'), lambda reader, _: reader._stack.pop()),
    **dict.fromkeys(('APPENDS', 'SETITEMS', 'ADDITEMS'), lambda reader, _: reader._pop_mark()),
    'SETITEM': lambda reader, _: reader._two(),
    'BINPERSID': nothing,
}
