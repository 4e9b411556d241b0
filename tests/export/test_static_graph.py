"""Exported graphs keep to what TensorRT can compile: no shape depends on the data."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnx

from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.export import files
from hrformer_mmpose.inference.torch_network import TorchNetwork, build, read_config
from tests.export.test_export import CODECS, CONFIG, Decoder

# Position of the inputs that determine shapes, by operator.
SHAPES = dict(
    Reshape=(1,), Resize=(1, 2, 3), Slice=(1, 2, 3, 4), ConstantOfShape=(0,), Expand=(1,), Pad=(1,),
    Tile=(1,), Range=(0, 1, 2), Unsqueeze=(1,), Squeeze=(1,), TopK=(1,), Split=(1,), OneHot=(1,),
)  # fmt: skip
# Operators that TensorRT's parser of ONNX files (version 10) supports and our graphs may hold.
NAMES = """
Abs Add And ArgMax BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
ConvTranspose DequantizeLinear Div Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND
Gemm Greater GreaterOrEqual Identity IsInf IsNaN LayerNormalization Less LessOrEqual Log MatMul Max
Min Mod Mul Neg Not Or Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin
ReduceSum Relu Reshape Resize Round Shape Sigmoid Sign Slice Softmax Split Sqrt Squeeze Sub Tanh
Tile Transpose Unsqueeze Where
"""
SUPPORTED = set(NAMES.split())


def problems(model) -> list[str]:
    """List what TensorRT would refuse."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    inputs = {value.name for value in graph.input}
    found = [f'{n.name}: {n.op_type}' for n in graph.node if n.op_type not in SUPPORTED]

    def depends_on_data(name: str) -> bool:
        node = producers.get(name)
        if node is None:
            return name in inputs
        return node.op_type != 'Shape' and any(map(depends_on_data, filter(None, node.input)))

    for node in graph.node:
        names = [node.input[i] for i in SHAPES.get(node.op_type, ()) if i < len(node.input)]
        if any(map(depends_on_data, filter(None, names))):
            found.append(f'{node.name}: {node.op_type} has a shape that depends on the data')
    found += [
        f'{tensor.name} is double'
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.DOUBLE
    ]
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions != {'': files.OPSET}:
        found.append(f'operator sets {versions}')
    return found


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('static')
    (folder / 'small.py').write_text(CONFIG)
    config, checkpoint = folder / 'small.py', folder / 'small.pth'
    save_weights(build(read_config(str(config)), 'small').state_dict(), checkpoint, 'mmpose')
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False, flip_test=True)
    files.write(network, checkpoint, folder / 'small.onnx')
    return onnx.load(folder / 'small.onnx')


def test_a_network_with_flip_test_and_decoding_is_static(exported):
    assert problems(exported) == []
    # Only the batch may change.
    (images,) = exported.graph.input
    sizes = [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim]
    assert sizes == ['batch', 112, 84, 3]


@pytest.mark.parametrize('codec', CODECS[1:], ids=['dark', 'udp', 'combined'])
def test_the_other_codecs_are_static(codec, tmp_path):
    channels = 3 if getattr(codec, 'heatmap_type', '') == 'combined' else 1
    with files.quiet():
        torch.onnx.export(
            Decoder(codec), (torch.rand(2, 17 * channels, 64, 48),), str(tmp_path / 'a.onnx'),
            dynamo=False, opset_version=files.OPSET, input_names=['heatmaps'],
            dynamic_axes={'heatmaps': {0: 'batch'}},
        )  # fmt: skip
    assert problems(onnx.load(tmp_path / 'a.onnx')) == []


def test_the_rules_find_what_they_forbid(exported):
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    add = model.graph.node.add
    add(op_type='NonZero', name='a', input=['images'], output=['where'])
    add(op_type='Cast', name='b', input=['where'], output=['shape'])
    add(op_type='ConstantOfShape', name='c', input=['shape'], output=['zeros'])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2), 'zeros2'))
    model.opset_import[0].version = 9
    assert problems(model) == [
        'a: NonZero',
        'c: ConstantOfShape has a shape that depends on the data',
        'zeros2 is double',
        "operator sets {'': 9}",
    ]
