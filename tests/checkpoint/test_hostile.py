"""Files that are made to crash, hang or fill the memory of who reads them; and odd but honest ones.

Each is read in this process: one that crashed or hung would end the tests.
"""

import contextlib
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from hrformer_mmpose.checkpoint import files, load_weights
from hrformer_mmpose.checkpoint import safe_pickle as pickles
from hrformer_mmpose.checkpoint.safe_pickle import Settings
from hrformer_mmpose.errors import WeightsError

# Opcodes, as `pickletools` describes them.
PROTO, STOP, MARK = b'\x80\x02', b'.', b'('


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def number(value: int) -> bytes:
    return b'\x8a\x08' + struct.pack('<q', value)


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


def tuple_of(*items: bytes) -> bytes:
    return MARK + b''.join(items) + b't'


def zipped(path, stream: bytes, data: bytes = bytes(16), compression=zipfile.ZIP_STORED):
    """An archive as `torch.save` writes it, with one storage."""
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', stream)
        archive.writestr('archive/version', '3\n')
        archive.writestr('archive/data/0', data)
    return path


def storage(count: int = 4, kind: str = 'FloatStorage') -> bytes:
    parts = (text('storage'), name('torch', kind), text('0'), text('cpu'), number(count))
    return tuple_of(*parts) + b'Q'


def tensor(size, stride, offset: int = 0, held: bytes | None = None) -> bytes:
    sizes = (tuple_of(*map(number, values)) for values in (size, stride))
    arguments = (held or storage(), number(offset), *sizes, b'\x89', b'N')
    return name('torch._utils', '_rebuild_tensor_v2') + tuple_of(*arguments) + b'R'


def weights(value: bytes) -> bytes:
    return PROTO + b'}' + text('conv1.weight') + value + b's' + STOP


def refused(path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    line = str(error.value)
    assert str(path) in line
    assert line.isprintable()
    assert len(line) < 400
    return line


def test_an_honest_file_of_these_parts(tmp_path):
    """So that the files below are refused for what is wrong with them."""
    data = np.arange(4, dtype=np.float32)
    stream = weights(tensor([2, 2], [2, 1]))
    assert load_weights(zipped(tmp_path / 'x.pth', stream, data.tobytes()))[
        'conv1.weight'
    ].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ('size', 'stride', 'offset'),
    [
        ([10**7, 10**6], [0, 0], 0),
        ([5], [1], 0),
        ([2], [1], 3),
        ([2], [2**40], 0),
        ([2], [-1], 1),
        ([-1], [1], 0),
        ([2, 2], [1], 0),
        ([0, 2**62, 2**62], [1, 1, 1], 0),
        ([2], [1], -1),
        ([2] * 80, [0] * 80, 0),
    ],
)
def test_tensors_that_reach_beyond_their_bytes(tmp_path, size, stride, offset):
    refused(zipped(tmp_path / 'x.pth', weights(tensor(size, stride, offset))))


@pytest.mark.parametrize('count', [5, 3, 2**60, -1, 0])
def test_storages_of_another_size(tmp_path, count):
    stream = weights(tensor([1], [1], held=storage(count)))
    refused(zipped(tmp_path / 'x.pth', stream))


def dtype(state: bytes, kind: str = 'f8') -> bytes:
    made = name('numpy', 'dtype') + tuple_of(text(kind), b'\x89', b'\x88') + b'R'
    return made + state + b'b'


# Text of 2**20 bytes that is a reference: NumPy reads beyond the four that there are.
REFERENCE = tuple_of(number(3), text('<'), b'N', b'N', b'N', number(2**20), number(-1), number(4))
PLAIN_STATE = tuple_of(number(3), text('<'), b'N', b'N', b'N', number(-1), number(-1), number(0))
FIELDS = (
    tuple_of(text('a')),
    b'}' + text('a') + tuple_of(name('numpy', 'ndarray'), number(9)) + b's',
)


def array(kind: bytes, shape: bytes, raw: bytes = text('')) -> bytes:
    """An array of NumPy, whose state is given."""
    rebuild = name('numpy.core.multiarray', '_reconstruct')
    empty = rebuild + tuple_of(name('numpy', 'ndarray'), tuple_of(number(0)), text('b')) + b'R'
    data = name('_codecs', 'encode') + tuple_of(raw, text('latin1')) + b'R'
    return empty + tuple_of(number(1), shape, kind, b'\x89', data) + b'b'


def scalar(kind: bytes, raw: bytes) -> bytes:
    data = name('_codecs', 'encode') + tuple_of(raw, text('latin1')) + b'R'
    return name('numpy.core.multiarray', 'scalar') + tuple_of(kind, data) + b'R'


@pytest.mark.parametrize(
    'value',
    [
        dtype(tuple_of(number(3), text('|'), b'N', *FIELDS, number(8), number(1), number(16))),
        dtype(
            tuple_of(
                number(4), text('<'), tuple_of(name('numpy', 'dtype'), tuple_of(number(2**40))),
                b'N', b'N', number(-1), number(-1), number(0),
            )
        ),
        scalar(dtype(REFERENCE, 'U1'), text('1234')),
        dtype(PLAIN_STATE, 'O8'),
        dtype(PLAIN_STATE, 'V1000000000'),
        dtype(PLAIN_STATE, 'f8,i4'),
        array(dtype(PLAIN_STATE), tuple_of(number(2**40))),
        array(dtype(PLAIN_STATE), tuple_of(number(0), number(2**62), number(2**62))),
        array(dtype(PLAIN_STATE), tuple_of(number(-1)), text('12345678')),
        array(dtype(PLAIN_STATE, 'U0'), tuple_of(number(2**40))),
        array(number(3), tuple_of(number(1)), text('1')),
        array(dtype(PLAIN_STATE), tuple_of(number(1)), b']'),
    ],
    ids=['fields', 'subarray', 'reference', 'objects', 'void', 'record', 'huge', 'overflow',
         'negative', 'nothing', 'no-dtype', 'list'],
)  # fmt: skip
def test_crafted_numpy_state(tmp_path, value):
    """The crash of a file of 608 bytes: a dtype whose state is not of its kind."""
    refused(zipped(tmp_path / 'x.pth', weights(value)))


def nested(depth: int) -> bytes:
    """((t, t), (t, t)) and so on, by references: short to write, endless to hash."""
    pairs = (b'q' + bytes([i]) + b'h' + bytes([i]) + b'\x86' for i in range(depth))
    return b'K\x01' + b''.join(pairs)


def deep(depth: int) -> bytes:
    return PROTO + b'}' + text('x') + b']' * depth + b'a' * (depth - 1) + b's' + STOP


def shared(depth: int) -> bytes:
    """Lists that hold the one before twice."""
    value = b']'
    for i in range(depth):
        value += b'q' + bytes([i]) + b'0](' + (b'h' + bytes([i])) * 2 + b'e'
    return PROTO + b'}' + text('x') + value + b's' + STOP


@pytest.mark.parametrize(
    'stream',
    [
        PROTO + b'}' + nested(60) + b'K\x01s' + STOP,
        PROTO + name('builtins', 'set') + b'](' + nested(60) + b'e\x85R' + STOP,
        PROTO + name('collections', 'Counter') + nested(60) + b'\x85\x85R' + STOP,
        PROTO + name('collections', 'OrderedDict') + b'](' + nested(60) + b'N\x86e\x85R' + STOP,
        PROTO + b'\x8f(' + nested(60) + b'\x90' + STOP,
        PROTO + b'}' + b')' + b'\x85' * 100_000 + b'Ns' + STOP,
        deep(100_000),
        shared(60),
        PROTO + b'}q\x00' + text('x') + b'h\x00s' + STOP,
        PROTO + b'\x8b' + struct.pack('<I', 10**6) + b'\x7f' * 10**6 + STOP,
        PROTO + b'}' + text('x') + b'I' + b'9' * 4000 + b'\ns' + STOP,
        PROTO + b'Nr\xff\xff\xff\x7f}' + STOP,
        PROTO + b'B\xff\xff\xff\x7f' + STOP,
        b'\x80\x04\x8e' + struct.pack('<Q', 2**62) + STOP,
        PROTO + b'N' * 200_000 + STOP,
        PROTO + b'}' + text('x\n\x1b[31mred') + name('os\x1b[31m', 'system') + b's' + STOP,
        PROTO + b'}' + text('x' * 10_000) + tensor([4], [1]) + b's' + STOP,
        PROTO + b'}' + text('x\n\x1b[31mred') + tensor([4], [1]) + b's' + STOP,
        PROTO + b'0' + STOP,
        PROTO + b'(' * 1000 + b't' * 2000 + STOP,
    ],
    ids=['hash', 'hash-set', 'hash-counter', 'hash-ordered', 'hash-add',
         'deep-hash', 'deep', 'shared', 'itself', 'bits', 'digits', 'memo', 'length',
         'length8', 'many', 'terminal', 'long-key', 'unprintable-key', 'pop', 'marks'],
)  # fmt: skip
@pytest.mark.parametrize('kind', ['zip', 'pickle', 'legacy'])
def test_pickles_that_would_hang_or_crash(tmp_path, monkeypatch, stream, kind):
    monkeypatch.setattr(pickles, 'MAX_OPCODES', 150_000)
    path = tmp_path / 'x.pth'
    if kind == 'zip':
        zipped(path, stream)
    else:
        path.write_bytes(legacy(stream) if kind == 'legacy' else stream)
    refused(path)


def legacy(stream: bytes, tail: bytes = b'') -> bytes:
    head = (0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True))
    return b''.join(pickle.dumps(value, 2) for value in head) + stream + tail


@pytest.mark.parametrize('expand', ['encode', 'set', 'update', 'views'])
def test_references_that_multiply(tmp_path, expand):
    """One large value of the file, used a hundred thousand times."""
    once = {
        'encode': name('_codecs', 'encode') + tuple_of(b'h\x01', text('latin1')) + b'R',
        'set': name('builtins', 'set') + b'h\x01\x85R',
        'update': name('argparse', 'Namespace') + b')\x81h\x01b',
        'views': name('torch._utils', '_rebuild_tensor_v2')
        + tuple_of(b'h\x01', number(0), tuple_of(number(10**6)), tuple_of(number(1)), b'\x89', b'N')
        + b'R',
    }[expand]
    big = {
        'encode': text('x' * 10**6),
        'set': b']' + MARK + b'K\x01' * 10**5 + b'e',
        'update': b'}' + MARK + b''.join(text(str(i)) + b'N' for i in range(10**4)) + b'u',
        'views': storage(10**6),
    }[expand]
    stream = PROTO + big + b'q\x010' + b'}' + text('x') + b']' + MARK + once * 10**4 + b'es' + STOP
    refused(zipped(tmp_path / 'x.pth', stream, bytes(4 * 10**6)))


def test_compressed_entries(tmp_path):
    """3 MB that become 3 GB: refused before they are unpacked."""
    path = tmp_path / 'x.pth'
    zipped(path, weights(tensor([4], [1])), bytes(10**7), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    assert 'is compressed' in refused(path)
    with pytest.raises(WeightsError, match='is compressed'):
        files.check(path)


def test_entries_that_overlap(tmp_path):
    """A directory that names the same bytes a thousand times."""
    path = zipped(tmp_path / 'x.pth', weights(tensor([4], [1])), bytes(10**6))
    data = path.read_bytes()
    end = data.rindex(b'PK\x05\x06')
    start, size = struct.unpack('<II', data[end + 12 : end + 20])[::-1]
    last = data.rindex(b'PK\x01\x02', 0, end)
    entries = data[start : start + size] + data[last:end] * 1000
    count = struct.pack('<HHII', 1003, 1003, len(entries), start)
    path.write_bytes(data[:start] + entries + b'PK\x05\x06\0\0\0\0' + count + b'\0\0')
    assert 'larger than the file' in refused(path)


@pytest.mark.parametrize('position', range(0, 200, 3))
def test_a_damaged_directory(tmp_path, position):
    path = zipped(tmp_path / 'x.pth', weights(tensor([4], [1])))
    data = bytearray(path.read_bytes())
    data[-1 - position] ^= 0xFF
    path.write_bytes(data)
    with contextlib.suppress(WeightsError):
        assert load_weights(path)['conv1.weight'].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ('make', 'what'),
    [
        (lambda: torch.eye(3).to_sparse(), 'a sparse tensor'),
        (lambda: torch.eye(3).to_sparse_csr(), 'a sparse tensor'),
        (
            lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
            'a quantised tensor',
        ),
        (lambda: torch.zeros(3, device='meta'), 'a tensor without data (device meta)'),
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), 'a nested tensor'),
    ],
    ids=['sparse', 'csr', 'quantised', 'meta', 'nested'],
)
@pytest.mark.filterwarnings('ignore')
def test_tensors_of_other_kinds(tmp_path, make, what):
    path = tmp_path / 'x.pth'
    torch.save({'state_dict': {'conv1.weight': make()}}, path)
    assert f'holds {what}' in refused(path)


# Odd, but honest.


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_what_files_hold_besides_weights(tmp_path, protocol, zipped):
    path = tmp_path / 'x.pth'
    weight = torch.arange(24.0).reshape(4, 6)
    content = {
        'state_dict': OrderedDict(whole=weight, part=weight[1:3, ::2], turned=weight.t()),
        'parameter': torch.nn.Parameter(weight),
        'types': [torch.tensor(3), torch.tensor(True), torch.tensor(1j), torch.zeros(0, 5).half()],
        'new': torch.tensor([1, 2], dtype=torch.uint16),
        'plain': [1, -(2**40), 2**70, 0.5, None, True, 'é', b'\xff', (1, (2, 3)), {4, 5}, 1j],
        'torch': [torch.float16, torch.Size([1, 2]), torch.device('cuda:1')],
        'numpy': [np.float64(3), np.array(['a', 'bc']), np.ones((2, 3), order='F'), np.bool_(True)],
        'big-endian': np.arange(3, dtype='>i4'),
        'keys': {1: 1, 0.5: 2, None: 3, (1, 'a'): 4},
    }
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = files.read(path)
    assert found.keys() == content.keys()
    for key in ('plain', 'torch', 'keys'):
        assert found[key] == content[key]
    for ours, theirs in zip(
        [*found['state_dict'].values(), found['parameter'], *found['types'], found['new']],
        [*content['state_dict'].values(), weight, *content['types'], content['new']],
        strict=True,
    ):
        assert (ours.dtype, ours.shape, ours.stride()) == (
            theirs.dtype,
            theirs.shape,
            theirs.stride(),
        )
        assert torch.equal(ours, theirs)
    base, part, _ = found['state_dict'].values()
    assert part.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()
    for ours, theirs in zip(
        [*found['numpy'], found['big-endian']],
        [*content['numpy'], content['big-endian']],
        strict=True,
    ):
        # NumPy itself makes the order native or not, by protocol.
        assert ours.dtype.newbyteorder('=') == theirs.dtype.newbyteorder('=')
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_a_look_without_tensors(tmp_path, zipped):
    torch.save(
        {'w': torch.ones(3, 4), 'meta': 5},
        tmp_path / 'x.pth',
        _use_new_zipfile_serialization=zipped,
    )
    content = files.read(tmp_path / 'x.pth', skip_tensors=True)
    assert content['meta'] == 5
    assert content['w'].is_meta
    assert content['w'].shape == (3, 4)


# What `pickle.dumps(node, 2)` gives for a CfgNode of yacs 0.1.8 with one entry.
NODE_STATE = b'}(%s\x89%s%s]\x85R%s}%s\x89u' % (
    text('__immutable__'),
    text('__deprecated_keys__'),
    name('__builtin__', 'set'),
    text('__renamed_keys__'),
    text('__new_allowed__'),
)


def node(entries: bytes) -> bytes:
    return name('yacs.config', 'CfgNode') + b')\x81(' + entries + b'u' + NODE_STATE + b'b'


def test_the_authors_classification_files(tmp_path):
    """Their trainer stores a settings object of yacs beside the weights."""
    entries = text('MODEL') + node(text('TYPE') + text('hrt')) + text('LR') + b'K\x01'
    model = b'}' + text('conv1.weight') + tensor([4], [1]) + b's'
    stream = PROTO + b'}(' + text('model') + model + text('config') + node(entries) + b'u' + STOP
    path = zipped(tmp_path / 'x.pth', stream, np.arange(4, dtype=np.float32).tobytes())
    assert load_weights(path)['conv1.weight'].tolist() == [0, 1, 2, 3]
    config = files.read(path)['config']
    assert type(config) is Settings
    assert config['MODEL']['TYPE'] == 'hrt'


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
def test_a_real_settings_object(tmp_path, zipped):
    yacs = pytest.importorskip('yacs.config')
    config = yacs.CfgNode(dict(MODEL=dict(TYPE='hrt', SIZES=[1, 2]), LR=0.1))
    config.freeze()
    content = {'model': {'w': torch.ones(3)}, 'config': config, 'max_accuracy': 78.1}
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
    assert load_weights(tmp_path / 'x.pth')['w'].tolist() == [1, 1, 1]
    found = files.read(tmp_path / 'x.pth')['config']
    assert found['MODEL'].items() >= config.MODEL.items()
    assert 'yacs.config' not in str(type(found))
