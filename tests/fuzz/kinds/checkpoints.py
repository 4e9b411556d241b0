"""Checkpoints: damaged and hostile files of every format that the reader takes."""

import io
import json
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrformer_mmpose.checkpoint import load_weights, save_weights, to_official
from hrformer_mmpose.inference import torch_network as inference
from tests.fuzz.kinds.archives import archive_of, change_directory, entries_of
from tests.fuzz.kinds.pickles import HOSTILE, Call, edit, encoded, numpy_object, steps_of
from tests.fuzz.materials import Materials
from tests.fuzz.mutate import mutate_bytes, mutate_json

LIMIT = 2**31  # bytes of all weights of a file


class Checkpoints:
    """Files read by `load_weights`, and those of a whole network by `PoseEstimator`'s loader."""

    name = 'checkpoints'
    isolate = executes = False

    def __init__(self, materials: Materials):
        self.model = materials.model
        self.weights = {key: value.clone() for key, value in self.model.state_dict().items()}
        generator = torch.Generator().manual_seed(1)
        self.small = {
            f'backbone.layer{i}.weight': torch.randn(3, i + 1, generator=generator)
            for i in range(6)
        }
        self.whole = materials.checkpoint.read_bytes()
        folder = materials.folder
        save_weights(self.small, folder / 'small.safetensors', 'mmpose')
        self.tensors = (folder / 'small.safetensors').read_bytes()
        self.zipped = _saved(dict(state_dict=self.small, meta=dict(epoch=1)))
        self.legacy = _saved(dict(state_dict=self.small), legacy=True)
        self.logged = _saved(
            dict(state_dict=self.small, meta=dict(lr=np.float64(0.1), at=np.arange(6.0)), hub=[{}])
        )
        self.files = (self.zipped, self.legacy, self.tensors, self.logged)

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A file of one of the ways below."""
        ways = (
            (self._bytes, 30), (self._whole_bytes, 6), (self._opcodes, 25), (self._hostile, 15),
            (self._numpy, 10), (self._directory, 12), (self._structure, 12), (self._types, 8),
            (self._bombs, 2), (self._json, 5),
        )  # fmt: skip
        way = rng.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
        name, data, expected = way(rng)
        suffix = '.safetensors' if data[8:9] == b'{' else '.pth'
        path = folder / f'input{suffix}'
        path.write_bytes(data)
        return f'{way.__name__[1:]}: {name}', (path, expected)

    def judge(self, given: tuple[Path, Any]) -> None:
        """Weights are dense and of bounded size; those of an intact archive are the original's."""
        path, expected = given
        if expected == 'whole':
            self.model.load_state_dict(self.weights)
            inference.load(self.model, path)
            for key, value in self.model.state_dict().items():
                assert torch.equal(value, self.weights[key]), f'{key} differs'
            return
        weights = load_weights(path)
        size = 0
        for key, value in weights.items():
            assert isinstance(key, str), f'key {key!r}'
            assert value.layout == torch.strided, f'layout {value.layout}'
            assert value.device.type == 'cpu', f'device {value.device}'
            assert not value.is_quantized, 'quantised'
            size += value.numel() * value.element_size()
        assert size <= LIMIT, f'weights of more than 2 GiB from {path.stat().st_size >> 20} MiB'
        for value in weights.values():
            value.double().sum() if not value.is_complex() else value.sum()
        if expected in ('model', 'official'):
            self.model.load_state_dict(self.weights)
            inference.load(self.model, path)
            self._check_types(weights, expected)
        elif expected is not None:
            for key, value in weights.items():
                # An entry may be renamed by the damage, but no number may change.
                same = key in expected and torch.equal(value, expected[key])
                assert same or key not in expected, f'{key} differs'

    def _check_types(self, weights: dict, expected: str) -> None:
        for key, value in self.model.state_dict().items():
            given = weights.get(key)
            if given is None or not value.is_floating_point():
                continue
            assert given.is_floating_point(), f'{given.dtype} loaded as {value.dtype}'
            # The authors' code computes this bias without adding it: loaded as zero, with a line.
            if expected == 'official' and key.endswith('relative_position_bias_table'):
                given = torch.zeros_like(given)
            assert torch.equal(given.to(value.dtype).nan_to_num(), value.nan_to_num()), key

    # Ways; each returns a name, the file, and what is expected of the weights.

    def _bytes(self, rng: random.Random) -> tuple[str, bytes, Any]:
        data = rng.choice(self.files)
        name, data = mutate_bytes(rng, data, self.files)
        # Only zip archives have checksums; a splice may make an archive of another content.
        checked = data.startswith(b'PK') and 'splice' not in name
        return name, data, self.small if checked else None

    def _whole_bytes(self, rng: random.Random) -> tuple[str, bytes, Any]:
        name, data = mutate_bytes(rng, self.whole)
        return name, data, 'whole'

    def _opcodes(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """The pickle of an archive with opcodes changed."""
        entries = entries_of(rng.choice((self.zipped, self.logged)))
        place = next(key for key in entries if key.endswith('data.pkl'))
        steps = steps_of(entries[place])
        names = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            names.append(edit(rng, steps))
        entries[place] = b''.join(step for _, step in steps)
        return '+'.join(names), archive_of(entries), None

    def _hostile(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """A call in the place of a value, as a key, or as the state of an object."""
        module, name, arguments = rng.choice(HOSTILE)
        call = Call(module, name, arguments)
        new = rng.random() < 0.2
        inner = rng.choice(HOSTILE)
        if rng.random() < 0.3:
            call.state = rng.choice(
                (
                    {},
                    {'x': 1},
                    (None, {'__class__': 1}),
                    {'__class__': Call(*inner)},
                    [1],
                    (1, 2, 3),
                )
            )
        body = rng.choice((b'}X\x01\x00\x00\x00a%ss', b'}%sK\x01s', b']%sa', b'%s')) % call.opcodes(
            new
        )
        stream = b'\x80\x02' + body + b'.'
        if rng.random() < 0.5:
            entries = entries_of(self.zipped)
            entries[next(key for key in entries if key.endswith('data.pkl'))] = stream
            return f'{module}.{name} in an archive', archive_of(entries), None
        # A bare pickle, or the format before PyTorch 1.6, which starts with three of its own.
        head = b''
        if rng.random() < 0.6:
            head = b''.join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
        return f'{module}.{name} alone', head + stream + b'\x80\x02].', None

    def _numpy(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """NumPy's objects with crafted states, beside the valid weights."""
        value = numpy_object(rng)
        entries = entries_of(self.zipped)
        place = next(key for key in entries if key.endswith('data.pkl'))
        # The last SETITEMS closes the outer dict.
        entries[place] = entries[place][:-2] + encoded('extra') + encoded(value) + b'u.'
        return value.name, archive_of(entries), None

    def _directory(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """Entries exchanged, doubled, missing or renamed; a changed central directory."""
        entries = entries_of(rng.choice((self.zipped, self.logged)))
        names = [*entries]
        action = rng.choice(('swap', 'missing', 'rename', 'resize', 'deflate', 'double', 'record'))
        one, other = rng.choice(names), rng.choice(names)
        if action == 'swap':
            entries[one], entries[other] = entries[other], entries[one]
        elif action == 'missing':
            del entries[one]
        elif action == 'rename':
            name = rng.choice(
                ('../x', '/etc/x', 'x', one.upper(), one + '/', 'archive/data/' + 'y' * 9)
            )
            entries[name] = entries.pop(one)
        elif action == 'resize':
            entries[one] = rng.choice((entries[one] * 3, entries[one][:-1], b'', bytes(5000)))
        data = archive_of(entries, rng.choice((True, False)) if action == 'deflate' else False)
        if action == 'double':
            data = archive_of(entries, double=(one, rng.randbytes(len(entries[one]))))
        if action == 'record':
            data = change_directory(rng, data)
        return f'{action} {one.rpartition("/")[2]}', data, None

    def _structure(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """A whole network with entries lost, renamed, reshaped or wrapped."""
        weights = dict(self.weights)
        action = rng.choice(('lose', 'lose part', 'rename', 'shape', 'wrap', 'swap', 'official'))
        key = rng.choice([*weights])
        if action == 'lose':
            del weights[key]
        elif action == 'lose part':
            part = rng.choice(('stage4', 'stage2', 'head', 'backbone', '.attn.', 'bias', 'norm'))
            weights = {name: value for name, value in weights.items() if part not in name}
        elif action == 'rename':
            weights[rng.choice((key + 'x', key[1:], 'module.' + key, ''))] = weights.pop(key)
        elif action == 'shape':
            weights[key] = rng.choice(
                (
                    torch.zeros(()),
                    torch.zeros(0),
                    weights[key][None],
                    torch.zeros(3, 3),
                    torch.ones(5),
                )
            )
        elif action == 'swap':
            other = rng.choice([*weights])
            weights[key], weights[other] = weights[other], weights[key]
        elif action == 'official':
            weights = to_official(weights)
            chosen = [name for name in weights if rng.choice(('_proj', 'final', 'table')) in name]
            if chosen:
                del weights[rng.choice(chosen)]
        content = _wrapped(rng, weights) if action == 'wrap' else dict(state_dict=weights)
        expected = 'official' if action == 'official' else 'model'
        return f'{action} {key}', _saved(content), expected

    def _types(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """A whole network with entries of another type or layout."""
        weights = dict(self.weights)
        casts = {
            'int8': lambda x: x.to(torch.int8), 'bool': lambda x: x.bool(),
            'complex': lambda x: x.to(torch.complex64), 'double': lambda x: x.double(),
            'half': lambda x: x.half(), 'bfloat16': lambda x: x.bfloat16(),
            'int64': lambda x: x.long(), 'sparse': lambda x: x.to_sparse(),
            'meta': lambda x: x.to('meta'), 'nan': lambda x: x * float('nan'),
            'float8': lambda x: x.to(torch.float8_e4m3fn),
            'quantised': lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
            'expanded': lambda x: torch.zeros(1).expand(x.shape),
            'huge': lambda x: torch.zeros(1).expand(10**12), 'scalar': lambda x: torch.tensor(1.0),
            'transposed': lambda x: x.t().contiguous().t() if x.ndim == 2 else x,
            'number': lambda x: 1.0, 'list': lambda x: x.tolist(), 'array': lambda x: x.numpy(),
            'parameter': lambda x: torch.nn.Parameter(x), 'nested': lambda x: {'x': x},
            'view': lambda x: torch.cat([x.flatten(), x.flatten()])[: x.numel()].view(x.shape),
        }  # fmt: skip
        kind = rng.choice([*casts])
        floats = [key for key, value in weights.items() if value.is_floating_point()]
        keys = rng.choice((floats, [rng.choice(floats)]))
        for key in keys:
            weights[key] = casts[kind](weights[key])
        try:
            data = _saved(dict(state_dict=weights), legacy=rng.random() < 0.2)
        except (RuntimeError, TypeError):  # not every layout can be saved
            return 'unchanged', _saved(dict(state_dict=self.weights)), 'model'
        return f'{kind} x {len(keys)}', data, 'model'

    def _bombs(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """Small files that ask for much memory or time."""
        entries = entries_of(self.zipped)
        place = next(key for key in entries if key.endswith('data.pkl'))
        kind = rng.choice(('deflated', 'stride', 'tuples', 'nested', 'memo', 'long'))
        if kind == 'deflated':
            entries = entries_of(_saved({'state_dict': {'a.weight': torch.zeros(2**28)}}))
            return kind, archive_of(entries, deflate=True), None
        if kind == 'stride':
            value = torch.zeros(1).expand(rng.choice((10**10, 10**13)))
            return kind, _saved({'state_dict': {'a.weight': value}}), None
        if kind == 'tuples':  # hashing a key of nested tuples doubles with each level
            body = b'}' + b'K\x01' + b'2\x86' * rng.choice((26, 60, 5000)) + b'K\x01s'
        elif kind == 'nested':
            body = b']' * 200000 + b'a' * 199999
        elif kind == 'memo':
            body = b']' + b'r' + struct.pack('<I', 2**31 - 1)
        else:
            body = b'\x8b' + struct.pack('<i', 2**31 - 10) + b'x'
        entries[place] = b'\x80\x02' + body + b'.'
        return kind, archive_of(entries), None

    def _json(self, rng: random.Random) -> tuple[str, bytes, Any]:
        """Safetensors with a changed header."""
        size = int.from_bytes(self.tensors[:8], 'little')
        header = json.loads(self.tensors[8 : 8 + size])
        name, text = mutate_json(rng, header)
        count = len(text) if rng.random() < 0.8 else rng.choice((0, 2**20, 2**62, len(text) + 5))
        return name, count.to_bytes(8, 'little') + text + self.tensors[8 + size :], None


def _saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _wrapped(rng: random.Random, weights: dict) -> Any:
    return rng.choice(
        (
            weights, [weights], {'model': weights}, {'state_dict': {'model': weights}},
                (1, weights),
            {'state_dict': []}, {'state_dict': None, 'model': weights}, {}, None, 7, 'text',
            {'module': {'state_dict': weights}}, {'state_dict': {1: 2}}, {'meta': 3, **weights},
            {'state_dict': weights, 'meta': {'origin': rng.choice((1, 'x', None))}},
            {'state_dict': weights, 'optimizer': 1, 'message_hub': 2,
                'meta': {'epoch': 1, 'iter': 2}},
        )
    )  # fmt: skip
