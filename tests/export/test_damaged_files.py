"""Exported files that were damaged or changed: refused by one line, by every backend."""

import importlib.util
import itertools
import json
import os

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('mmpose')
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrformer_mmpose.errors import ConfigError, UserError, WeightsError
from hrformer_mmpose.export import files
from hrformer_mmpose.imaging.skeleton import COCO
from hrformer_mmpose.inference import digest
from hrformer_mmpose.inference.description import KEY, Description
from hrformer_mmpose.inference.networks import open_network

K, SIDE = 17, 8
DESCRIPTION = Description(
    config='linear', checkpoint='', sha256='', version='1', created='2026-01-01',
    input_size=(SIDE, SIDE), padding=1.25, udp=False, mean=(0, 0, 0), std=(1, 1, 1), rgb=True,
    normalise=True, decode=True, codec={}, flip_test=False, precision='float32',
    keypoints=COCO.names, links=COCO.links, flip_indices=COCO.flip_indices,
)  # fmt: skip
BATCH = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def linear_network(path) -> None:
    """Keypoints and scores as linear functions of the pixels."""
    weight = np.random.default_rng(0).normal(size=(SIDE * SIDE * 3, K * 3)).astype(np.float32)
    constants = dict(weight=weight, flat=[0, -1], rows=[0, K, 3], parts=[2, 1], shape=[0, K])
    nodes = [
        helper.make_node('Cast', ['images'], ['float'], to=TensorProto.FLOAT),
        helper.make_node('Reshape', ['float', 'flat'], ['pixels']),
        helper.make_node('MatMul', ['pixels', 'weight'], ['product']),
        helper.make_node('Reshape', ['product', 'rows'], ['points']),
        helper.make_node('Split', ['points', 'parts'], ['keypoints', 'column'], axis=2),
        helper.make_node('Reshape', ['column', 'shape'], ['scores']),
    ]
    kinds = dict(images=TensorProto.UINT8, keypoints=TensorProto.FLOAT, scores=TensorProto.FLOAT)
    shapes = dict(images=(SIDE, SIDE, 3), keypoints=(K, 2), scores=(K,))
    images, *outputs = (
        helper.make_tensor_value_info(name, kind, ['batch', *shapes[name]])
        for name, kind in kinds.items()
    )
    stored = [numpy_helper.from_array(np.array(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, 'linear', [images], outputs, stored)
    opset = [helper.make_opsetid('', files.OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Folder with linear.onnx, linear.xml and linear.bin, written as an export writes them."""
    folder = tmp_path_factory.mktemp('linear')
    path = folder / 'linear.onnx'
    linear_network(path)
    if importlib.util.find_spec('openvino'):
        files._to_openvino(path, path.with_suffix('.xml'), DESCRIPTION)
        digest.seal(path.with_suffix('.xml'))
    files.add_metadata(path, DESCRIPTION)
    digest.seal(path)
    return folder


def copied(written, folder, name):
    for path in written.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / name


CASES = [
    ('linear.onnx', 'onnxruntime', 'linear.onnx'),
    ('linear.onnx', 'openvino', 'linear.onnx'),
    ('linear.xml', 'openvino', 'linear.xml'),
    ('linear.xml', 'openvino', 'linear.bin'),
]


def damaged(data: bytes, rng) -> bytes:
    """A flipped bit, eight bytes of noise, a hole of zeros, or the end missing."""
    at, kind = int(rng.integers(len(data))), rng.integers(4)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
    if kind == 3:
        return data[:at]
    noise = rng.bytes(8) if kind == 1 else bytes(64)
    return data[:at] + noise + data[at + len(noise) :]


def tried(path, backend):
    """Poses, or the line that refuses the file."""
    try:
        return open_network(path, backend, 1).predict(BATCH)
    except UserError as error:
        line = str(error)
        assert '\n' not in line
        assert str(path.with_suffix('')) in line
        return line


@pytest.mark.parametrize(('name', 'backend', 'file'), CASES)
def test_damage_is_refused_or_harmless(written, tmp_path, name, backend, file, capfd):
    pytest.importorskip(backend)
    path = copied(written, tmp_path, name)
    expected, whole = tried(path, backend), (tmp_path / file).read_bytes()
    rng, refused = np.random.default_rng(3), 0
    for _ in range(60):
        (tmp_path / file).write_bytes(damaged(whole, rng))
        result = tried(path, backend)
        refused += isinstance(result, str)
        if not isinstance(result, str):  # zeros in place of zeros
            np.testing.assert_array_equal(result[0], expected[0])
            np.testing.assert_array_equal(result[1], expected[1])
    assert refused > 50
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize(('name', 'backend', 'file'), CASES)
def test_damage_of_files_without_a_checksum_is_one_line_or_runs(
    written, tmp_path, name, backend, file, monkeypatch, capfd
):
    """As exports of earlier versions are: whatever the backend raises, and when."""
    pytest.importorskip(backend)
    monkeypatch.setattr(digest, 'check', lambda path: None)
    path = copied(written, tmp_path, name)
    whole, rng = (tmp_path / file).read_bytes(), np.random.default_rng(4)
    results = []
    for _ in range(60):
        (tmp_path / file).write_bytes(damaged(whole, rng))
        results.append(tried(path, backend))
    assert sum(isinstance(result, str) for result in results) > 5
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize(('name', 'backend', 'file'), CASES[:3])
def test_one_changed_weight_is_refused(written, tmp_path, name, backend, file):
    """The file is a valid network, and its poses would be others."""
    pytest.importorskip(backend)
    path = copied(written, tmp_path, name)
    weights = path.with_suffix('.bin') if name.endswith('.xml') else path
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0x40
    weights.write_bytes(data)
    assert tried(path, backend) == (
        f"'{path}' is damaged or was changed after its export (its checksum does not match): copy "
        'it again, or export the network again'
    )


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_files_of_earlier_versions_have_no_checksum_and_run(written, tmp_path, backend):
    pytest.importorskip(backend)
    name = 'linear.onnx' if backend == 'onnxruntime' else 'linear.xml'
    path = copied(written, tmp_path, name)
    expected = tried(path, backend)
    if backend == 'onnxruntime':
        model = onnx.load(path)
        del model.metadata_props[1]
        onnx.save(model, path)
    else:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(''.join(line for line in lines if digest.ENTRY not in line))
    assert digest.ENTRY.encode() not in path.read_bytes()
    np.testing.assert_array_equal(tried(path, backend)[0], expected[0])


def test_onnx_saved_again_as_it_is_and_with_another_weight(written, tmp_path):
    path = copied(written, tmp_path, 'linear.onnx')
    model = onnx.load(path)
    onnx.save(model, path)
    assert not isinstance(tried(path, 'onnxruntime'), str)
    model.graph.node[0].doc_string = 'edited'
    onnx.save(model, path)
    assert 'was changed after its export' in tried(path, 'onnxruntime')


def test_missing_weights_are_named(written, tmp_path):
    pytest.importorskip('openvino')
    path = copied(written, tmp_path, 'linear.xml')
    path.with_suffix('.bin').unlink()
    assert tried(path, 'openvino') == (
        f"'{path.with_suffix('.bin')}', the weights of '{path}', cannot be read: No such file or "
        'directory'
    )


@pytest.mark.parametrize(
    'changes',
    [
        dict(input_size=[8]),
        dict(input_size=[8, -8]),
        dict(input_size=['8', 8]),
        dict(padding=float('nan')),
        dict(std=[0, 1, 1]),
        dict(mean=[0, 0]),
        dict(precision='float8'),
        dict(keypoints=[]),
        dict(links=[[0, 99]]),
        dict(flip_indices=[0] * 17),
        dict(flip_indices=None),
    ],
)
def test_descriptions_with_unusable_values(changes):
    values = json.loads(DESCRIPTION.to_json())
    assert Description.from_json(json.dumps(values), 'a.onnx').keypoints == [*COCO.names]
    with pytest.raises(WeightsError, match=r"'a\.onnx' was not written by"):
        Description.from_json(json.dumps(values | changes), 'a.onnx')


def test_a_network_of_other_outputs_is_one_line(written, tmp_path):
    path = copied(written, tmp_path, 'linear.onnx')
    model = onnx.load(path)
    values = json.loads(model.metadata_props[0].value)
    two = dict(keypoints=['nose', 'tail'], links=[[0, 1]], flip_indices=[0, 1])
    helper.set_model_props(model, {KEY: json.dumps(values | two)})
    onnx.save(model, path)
    line = tried(path, 'onnxruntime')
    assert 'gives arrays of (3, 17, 2), (3, 17) for 3 persons, not keypoints (3, 2, 2)' in line
    helper.set_model_props(model, {KEY: json.dumps(values | dict(input_size=[4, 4]))})
    onnx.save(model, path)
    with pytest.raises(WeightsError, match='cannot be run: '):
        open_network(path, 'onnxruntime').predict(BATCH[:, :4, :4])


@pytest.mark.parametrize('threads', [0, -1, 99_999])
def test_numbers_of_threads_are_bounded(threads):
    most = max(16, 4 * os.cpu_count())
    with pytest.raises(ConfigError, match=rf'threads={threads}: give 1 to {most} \(this'):
        open_network('none.onnx', threads=threads)


def test_every_byte_counts(tmp_path):
    """But for those of the key, without which a file counts as one that has no checksum."""
    path = tmp_path / 'a.onnx'
    entry = digest.ENTRY.encode() + b'\x12@' + digest.PLACEHOLDER.encode()
    path.write_bytes(b'before' + entry + b'after')
    digest.seal(path)
    sealed = path.read_bytes()
    digest.check(path)
    start = len('before')
    for at, bit in itertools.product(range(len(sealed)), range(8)):
        data = bytearray(sealed)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        if start <= at < start + len(digest.ENTRY):
            digest.check(path)
        else:
            with pytest.raises(WeightsError):
                digest.check(path)
