"""ONNX networks whose answer is known."""

import numpy as np
import pytest

needs_onnx = pytest.mark.usefixtures('_onnx')


def save_onnx(
    path, outputs: dict, nodes=(), inputs=(1, 3, 64, 64), constants=(), open_shapes=False
):
    """A network; of `outputs` (name -> array) those that no node makes are constants."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    nodes, made = list(nodes), {name for node in nodes for name in node.output}
    constants = dict(constants)
    for name, value in outputs.items():
        if name not in made:
            constants[f'{name}_value'] = np.asarray(value)
            nodes.append(helper.make_node('Identity', [f'{name}_value'], [name]))
    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        'detector',
        [helper.make_tensor_value_info('input', TensorProto.FLOAT, inputs)],
        [
            helper.make_tensor_value_info(
                name,
                types[np.asarray(value).dtype],
                [None] * np.ndim(value) if open_shapes else np.shape(value),
            )
            for name, value in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def bright_box(channel: int, level: float, rank: int = 4):
    """Nodes that find the box of the pixels whose channel is above a level: `box`, (1, 4) xyxy.

    A detector without weights: if the image is scaled, padded, normalised or its channels ordered
    otherwise than expected, the box is another one.
    """
    from onnx import helper

    node = helper.make_node
    constants = dict(level=np.float32(level), channel=np.int64([channel]), one=np.float32(1))
    constants['where'] = np.int64([rank - 3])
    constants['next'] = np.int64([channel + 1])
    nodes = [
        node('Slice', ['input', 'channel', 'next', 'where'], ['plane']),
        node('Greater', ['plane', 'level'], ['above']),
        node('Cast', ['above'], ['mask'], to=1),
    ]
    corners = []
    for axis, name in ((rank - 1, 'x'), (rank - 2, 'y')):
        others = [other for other in range(rank) if other != axis]
        nodes.append(node('ReduceMax', ['mask'], [name], axes=others, keepdims=0))
        for last in (0, 1):
            found = f'{name}{last}'
            nodes.append(node('ArgMax', [name], [f'{found}i'], axis=0, select_last_index=last))
            nodes.append(node('Cast', [f'{found}i'], [f'{found}f'], to=1))
            if last:
                nodes.append(node('Add', [f'{found}f', 'one'], [f'{found}e']))
            corners.append(f'{found}e' if last else f'{found}f')
    x0, x1, y0, y1 = corners
    nodes.append(node('Concat', [x0, y0, x1, y1], ['flat'], axis=0))
    constants['two_axes'] = np.int64([1, 4])
    nodes.append(node('Reshape', ['flat', 'two_axes'], ['box']))
    return nodes, constants


def centre_and_size(nodes, constants):
    """More nodes: `row`, (1, 4) of centre and size of `box`."""
    from onnx import helper

    constants['halves'] = np.float32(
        [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]]
    )
    nodes.append(helper.make_node('MatMul', ['box', 'halves'], ['row']))


def classes(count: int = 1, best: int = 0, score: float = 0.9) -> np.ndarray:
    rows = np.zeros((count, 80), np.float32)
    rows[:, best] = score
    return rows


CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of an input of 64 x 64


def grid() -> np.ndarray:
    """(84, 2) centres of the cells, in pixels."""
    return np.concatenate(
        [
            [[(x + 0.5) * s, (y + 0.5) * s] for y in range(64 // s) for x in range(64 // s)]
            for s in (8, 16, 32)
        ]
    )


def bright_network(path, form: str) -> str:
    """A detector of what is red, in the form's convention of input and output."""
    from onnx import helper

    rgb = form != 'mmdeploy' and form != 'yolox'
    level = {'mmdeploy': (150 - 123.675) / 58.395, 'yolox': 150.0}.get(form, 150 / 255)
    rank = 3 if form == 'torchvision' else 4
    nodes, constants = bright_box(0 if rgb else 2, level, rank)
    inputs = (1, 3, 64, 64)

    def concat(names, axis, result):
        nodes.append(helper.make_node('Concat', names, [result], axis=axis))

    def with_batch(name, result, shape):
        constants['batched'] = np.int64(shape)
        nodes.append(helper.make_node('Reshape', [name, 'batched'], [result]))

    if form == 'mmdeploy':
        constants['score'] = np.float32([[0.9]])
        concat(['box', 'score'], 1, 'one_row')
        with_batch('one_row', 'dets', [1, 1, 5])
        outputs = dict(dets=np.zeros((1, 1, 5), np.float32), labels=np.int64([[0]]))
    elif form == 'torchvision':
        nodes.append(helper.make_node('Identity', ['box'], ['boxes']))
        inputs = (3, 'height', 'width')
        outputs = dict(
            boxes=np.zeros((1, 4), np.float32), labels=np.int64([1]), scores=np.float32([0.9])
        )
    else:
        centre_and_size(nodes, constants)
        count = {'yolox': CELLS, 'yolov5': 3 * CELLS}.get(form, 5)
        rest = np.zeros((count - 1, 84 if form == 'yolov8' else 85), np.float32)
        if form == 'yolox':
            rest[:, :2] = grid()[1:]
        sure = np.ones((1, 0 if form == 'yolov8' else 1), np.float32)
        constants['tail'] = np.concatenate([sure, classes()], 1)
        constants['rest'] = rest
        concat(['row', 'tail'], 1, 'first')
        concat(['first', 'rest'], 0, 'rows')
        shape = (1, *[count, rest.shape[1]])
        if form == 'yolov8':
            nodes.append(helper.make_node('Transpose', ['rows'], ['turned'], perm=[1, 0]))
            shape = (1, rest.shape[1], count)
        with_batch('turned' if form == 'yolov8' else 'rows', 'output', shape)
        outputs = dict(output=np.zeros(shape, np.float32))
    return save_onnx(path, outputs, nodes, inputs, constants)
