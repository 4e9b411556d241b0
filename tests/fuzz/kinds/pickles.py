"""Hostile and damaged pickles."""

import pickle
import pickletools
import random
import struct
from typing import Any

import numpy as np

from tests.fuzz.worker import CANARY, CANARY_MODULE

# Callables that would leave a trace, with the pickled arguments that make them do it.
HOSTILE = (
    ('os', 'system', (f'touch {CANARY}',)),
    ('posix', 'system', (f'touch {CANARY}',)),
    ('subprocess', 'Popen', (('touch', CANARY),)),
    ('subprocess', 'check_output', (('touch', CANARY),)),
    ('builtins', 'exec', (f'open({CANARY!r}, "w")',)),
    ('builtins', 'eval', (f'open({CANARY!r}, "w")',)),
    ('builtins', 'open', (CANARY, 'w')),
    ('io', 'open', (CANARY, 'w')),
    ('__builtin__', 'exec', (f'open({CANARY!r}, "w")',)),
    ('builtins', '__import__', (CANARY_MODULE,)),
    ('importlib', 'import_module', (CANARY_MODULE,)),
    (CANARY_MODULE, 'sing', ()),
    (CANARY_MODULE, 'Bird', ()),
    ('pty', 'spawn', ('touch',)),
    ('runpy', 'run_path', (f'{CANARY_MODULE}.py',)),
    ('timeit', 'timeit', (f'open({CANARY!r}, "w")',)),
    ('torch.serialization', 'load', (CANARY,)),
    ('torch.hub', 'load', ('x', 'y')),
    ('torch', 'save', ((), CANARY)),
    ('torch._utils', '_import_dotted_name', ('os.system',)),
    ('numpy', 'save', (CANARY, ())),
    ('numpy', 'fromfile', ('/dev/zero',)),
    ('numpy', 'zeros', (2**44,)),
    ('numpy.f2py.crackfortran', 'getlincoef', (f'open({CANARY!r}, "w")', {})),
    ('builtins', 'getattr', ((), '__class__')),
    ('builtins', 'range', (2**50,)),
    ('builtins', 'bytearray', (2**50,)),
    ('builtins', 'set', (('a', 'b'),)),
    ('builtins', 'print', ('x',)),
    ('pathlib', 'PosixPath', (CANARY,)),
    ('functools', 'partial', (print,)),
    ('collections', 'Counter', ('aab',)),
    ('collections', 'deque', ((1, 2),)),
    ('argparse', 'Namespace', ()),
    ('yacs.config', 'CfgNode', ()),
    ('mmengine.logging.history_buffer', 'HistoryBuffer', ()),
    ('mmengine.config.config', 'ConfigDict', ()),
    ('omegaconf.dictconfig', 'DictConfig', ()),
    ('numpy', 'dtype', ('O8', False, True)),
    ('numpy', 'ndarray', ((2, 2),)),
    ('numpy.core.multiarray', '_reconstruct', ()),
    ('numpy._core.multiarray', 'scalar', ()),
    ('torch', 'Size', ((1, 2),)),
    ('torch', 'device', ('cuda:7',)),
    ('torch._utils', '_rebuild_tensor_v2', ()),
    ('torch._utils', '_rebuild_parameter', ()),
    ('torch._utils', '_rebuild_sparse_tensor', ()),
    ('torch._utils', '_rebuild_qtensor', ()),
    ('torch._utils', '_rebuild_meta_tensor_no_storage', ()),
    ('torch._tensor', '_rebuild_from_type_v2', ()),
    ('torch.storage', '_load_from_bytes', (b'',)),
    ('torch.storage', 'UntypedStorage', (2**44,)),
    ('torch', 'FloatStorage', (2**42,)),
)


class Call:
    """Pickled as a call of any global."""

    def __init__(self, module: str, name: str, arguments: tuple, state: Any = None):
        self.module, self.name, self.arguments, self.state = module, name, arguments, state

    def opcodes(self, new: bool = False) -> bytes:
        """Protocol 2."""
        body = b'c' + f'{self.module}\n{self.name}\n'.encode()
        body += encoded(self.arguments) + (b'\x81' if new else b'R')
        return body if self.state is None else body + encoded(self.state) + b'b'


def encoded(value: Any) -> bytes:
    """Opcodes of a value under protocol 2, without the memo."""
    if isinstance(value, Call):
        return value.opcodes()
    if isinstance(value, str):
        return b'X' + struct.pack('<I', len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return Call('_codecs', 'encode', (value.decode('latin1'), 'latin1')).opcodes()
    if isinstance(value, tuple):
        return b'(' + b''.join(map(encoded, value)) + b't'
    if isinstance(value, list):
        return b'](' + b''.join(map(encoded, value)) + b'e'
    if isinstance(value, dict):
        return b'}(' + b''.join(encoded(k) + encoded(v) for k, v in value.items()) + b'u'
    if callable(value):
        return f'c{value.__module__}\n{value.__name__}\n'.encode()
    return pickle.dumps(value, 2)[2:-1]  # numbers, which have no memo


def steps_of(stream: bytes) -> list[tuple[Any, bytes]]:
    """Opcodes of a pickle with their bytes."""
    found = [*pickletools.genops(stream)]
    ends = [position for _, _, position in found[1:]] + [len(stream)]
    return [
        (code.name, stream[start:end]) for (code, _, start), end in zip(found, ends, strict=True)
    ]


def edit(rng: random.Random, steps: list[tuple[Any, bytes]]) -> str:
    """Change the list of opcodes in one place."""
    place = rng.randrange(len(steps))
    name, step = steps[place]
    action = rng.choice(
        ('delete', 'double', 'swap', 'number', 'number', 'global', 'insert', 'byte')
    )
    if action == 'delete':
        del steps[place]
    elif action == 'double':
        steps.insert(place, steps[place])
    elif action == 'swap':
        other = rng.randrange(len(steps))
        steps[place], steps[other] = steps[other], steps[place]
    elif action == 'number':
        numbers = [
            i for i, (name, _) in enumerate(steps) if name in ('BININT1', 'BININT', 'BININT2')
        ]
        place = rng.choice(numbers)
        value = rng.choice((-1, 0, 1, 3, 255, 2**31 - 1, -(2**31), rng.getrandbits(16)))
        steps[place] = ('BININT', b'J' + struct.pack('<i', value))
        if rng.random() < 0.3:
            big = rng.choice((2**40, 2**62, 2**64, 2**200, -(2**63)))
            steps[place] = ('LONG1', pickle.dumps(big, 2)[2:-1])
    elif action == 'global':
        globals_ = [i for i, (name, _) in enumerate(steps) if name == 'GLOBAL']
        module, attribute, _ = rng.choice(HOSTILE)
        place = rng.choice(globals_)
        steps[place] = ('GLOBAL', b'c' + f'{module}\n{attribute}\n'.encode())
    elif action == 'insert':
        body = rng.choice(
            (b'N', b']', b'}', b')', b'(', b'0', b'2', b'K\x01', b'R', b'b', b's', b'u', b'\x85',
             b'\x86', b'\x87', b'\x81', b'Q', b'X\x03\x00\x00\x00abc', b'C\x03abc',
             b'G' + b'\x7f' * 8,
             Call(*rng.choice(HOSTILE)).opcodes() + b'0')
        )  # fmt: skip
        steps.insert(place, ('?', body))
    else:
        changed = bytearray(step)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        steps[place] = (name, bytes(changed))
    return f'{action} {name}'


def numpy_object(rng: random.Random) -> Call:
    """NumPy's objects with crafted states."""
    core = rng.choice(('numpy.core', 'numpy._core')) + '.multiarray'
    code = rng.choice(('f8', 'f8', 'i4', 'U1', 'U5', 'b', '?', 'O8', 'V8', 'S99999999', 'M8', 'a0'))
    part = Call('numpy', 'dtype', (rng.choice(('f8', 'i4', 'U1', 'O8')), False, True))
    size = rng.choice((-1, 0, 1, 4, 8, 20, 2**20, 2**31 - 1, -8))
    flags = rng.choice((0, 1, 8, 9, 27, 63, 64, 127, rng.randrange(256)))
    states = (
        (3, rng.choice('<|=>x'), None, None, None, size, rng.choice((-1, 0, 1, 8)), flags),
        (3, '|', None, ('a',), {'a': (part, rng.choice((0, 1, 2**20, -8)))}, size, 1, flags),
        (3, '|', None, ('a', 'b'), {'a': (part, 0)}, size, 1, flags),
        (3, '|', None, rng.choice((('a',), 'a', (1,))), rng.choice((None, {}, {'a': 1})), size,
            1, flags),
        (3, '|', (part, rng.choice(((2**31,), (2,), 3, ()))), None, None, size, 8, flags),
        (4, '<', None, None, None, -1, -1, 0, rng.choice((({}, (b'ns', 1, 1, 1)), (None, 1),
            5))),
        (rng.randint(0, 5), '=', None, None, None, size, 0), (1, '|', 5, None, None), (9,), (),
        None,
    )  # fmt: skip
    state = rng.choice(states)
    records = [('a', code), ('b', 'f8')]
    arguments = (
        (code, False, True),
        (code, 0, 1),
        (code,),
        (records,),
        ((code, (3,)),),
        ({'names': ['a'], 'formats': [code], 'offsets': [2**20], 'itemsize': 2**21},),
    )
    dtype = Call('numpy', 'dtype', rng.choice((arguments[0], rng.choice(arguments))), state)
    raw = rng.choice((rng.randbytes(rng.choice((0, 4, 8, 16, 80))), [None] * 5, 'text', None))
    shape = rng.choice(((1,), (2, 5), (0,), (2**40,), (-1,), (2**31, 2**31), (), 3, ('x',)))
    kind = rng.choice(('f8', dtype, b'b', 'O'))
    state = rng.choice((None, (1, shape, dtype, rng.random() < 0.5, raw), (shape, dtype, raw)))
    return rng.choice((
        dtype,
        Call(core, '_reconstruct', (np.ndarray, rng.choice(((0,), shape)), kind), state),
        Call('numpy', 'ndarray', (shape, dtype, *rng.choice(((), (raw,), (raw, 8, (2**20,))))),
            state),
        Call(core, 'scalar', (dtype, raw)),
        Call(core, 'scalar', (dtype,)),
    ))  # fmt: skip
