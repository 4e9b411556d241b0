"""Layers of an exported graph that may be computed in int8, and their groups.

Nodes of a graph are named after the modules that they come from, by PyTorch's exporter:
`/backbone/stage3/stage3.0/branches.1/branches.1.0/fc1/Conv`.
"""

import re

import onnx

OPERATORS = ('Conv', 'ConvTranspose', 'MatMul', 'Gemm')
PARTS = ('backbone', 'neck', 'head')  # normalization, flip test and decoding stay float
_INSIDE = re.compile(rf'/({"|".join(PARTS)})/')


def group_of(name: str) -> str | None:
    """Return the part of the network that a node belongs to; None outside of the network.

    A group is a branch of a module of a stage, e.g. 'backbone/stage3/stage3.0/branches.1', or a
    layer outside the stages, e.g. 'head/final_layer'.
    """
    if not _INSIDE.match(name):
        return None
    modules = name.strip('/').split('/')[:-1]
    depth = 4 if len(modules) > 1 and modules[1].startswith('stage') else 2
    return '/'.join(modules[:depth])


def quantizable(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Find the convolutions and matrix products of a network.

    Args:
        model: graph whose weights are initializers or constants.

    Returns:
        weighted: names of nodes with weights, which are quantized.
        products: names of products of two activations: attention's, before and after the softmax.
            They stay float: they take little time, and rounding of attention weights costs.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:  # in topological order
        if node.op_type == 'Constant' or (
            node.op_type in ('Identity', 'Transpose') and set(node.input) <= constants
        ):
            constants.update(node.output)
    nodes = [n for n in graph.node if n.op_type in OPERATORS and _INSIDE.match(n.name)]
    weighted = [n.name for n in nodes if n.input[1] in constants or n.input[0] in constants]
    return weighted, [n.name for n in nodes if n.name not in {*weighted}]


def last_output(model: onnx.ModelProto) -> str:
    """Return the name of the tensor that leaves the head: the heatmaps, or PRTR's coordinates."""
    return next(
        node.output[0] for node in reversed(model.graph.node) if node.name.startswith('/head/')
    )
