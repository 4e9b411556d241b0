"""Post-training quantization of ONNX files, by onnxruntime."""

import logging
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from . import files
from .layers import OPERATORS, group_of, quantizable

BATCH = 8
FLOAT = '_float32'  # appended to the names of restored weights
SUFFIX = '_quantized'  # of the names of weights, by onnxruntime


class OnnxQuantizer:
    """A network with onnxruntime's pairs of QuantizeLinear and DequantizeLinear.

    Weights have a scale a channel, activations one a tensor, from the smallest to the largest
    value that the calibration saw.

    Args:
        source: float32 network as ONNX.
        samples: inputs to calibrate on, (N, ...).
        float_nodes: names of nodes that are never quantized.
        say: receives lines about the progress.

    Raises:
        ImportError: onnxruntime is missing; names the package to install.
    """

    suffix = '.onnx'

    def __init__(
        self,
        source: Path,
        samples: np.ndarray,
        float_nodes: Sequence[str],
        say: Callable[[str], None] = lambda line: None,
    ):
        files.require('--precision int8', 'onnxruntime')
        from onnxruntime import quantization
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        with tempfile.TemporaryDirectory() as folder:
            prepared, augmented = Path(folder, 'prepared.onnx'), Path(folder, 'augmented.onnx')
            # Fold constants: only initializers count as weights.
            quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
            model = onnx.shape_inference.infer_shapes(onnx.load(prepared))
            _separate_biases(model.graph)
            self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
            weighted, _ = quantizable(model)
            calibrator = quantization.create_calibrator(
                prepared, [*OPERATORS], augmented_model_path=str(augmented)
            )
            name = model.graph.input[0].name
            calibrator.collect_data(_reader(quantization, name, samples, say))
            ranges = calibrator.compute_data()
        logging.getLogger().disabled, before = True, logging.getLogger().disabled
        try:
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=quantization.QuantType.QInt8,
                activation_qType=quantization.QuantType.QUInt8,
                tensors_range=ranges,
                nodes_to_quantize=[name for name in weighted if name not in {*float_nodes}],
                nodes_to_exclude=[],
                op_types_to_quantize=[*OPERATORS],
                extra_options={},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        finally:
            logging.getLogger().disabled = before
        self._quantized = quantizer.model.model

    def groups(self) -> list[str]:
        """Return the groups of layers that are quantized, in the order of the network."""
        dequantized = {
            n.output[0] for n in self._quantized.graph.node if n.op_type == 'DequantizeLinear'
        }
        names = [
            node.name
            for node in self._quantized.graph.node
            if node.op_type in OPERATORS and node.input[0] in dequantized
        ]
        return [*dict.fromkeys(group for group in map(group_of, names) if group)]

    def model(self, float_groups: Collection[str] = ()) -> onnx.ModelProto:
        """Return the network, with these groups in float32 again."""
        model = onnx.ModelProto()
        model.CopyFrom(self._quantized)
        graph = model.graph
        restored = {
            node.name
            for node in graph.node
            if node.op_type in OPERATORS and group_of(node.name) in float_groups
        }
        weights = _restore(graph, restored)
        for name in sorted(weights):
            graph.initializer.append(self._weights[name])
            graph.initializer[-1].name = name + FLOAT
        _remove_unused(graph)
        return model

    def tensor(self, name: str, samples: np.ndarray, float_groups: Collection[str]) -> np.ndarray:
        """Compute a tensor of the network by its name, see `model`."""
        import onnxruntime

        model = self.model(float_groups)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider']
        )
        return session.run([name], {session.get_inputs()[0].name: samples})[0]

    def save(
        self, path: Path, metadata: dict[str, str], float_groups: Collection[str] = ()
    ) -> None:
        """Write the network.

        Args:
            path: of the file.
            metadata: text by key.
            float_groups: see `model`.
        """
        model = self.model(float_groups)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)


def _separate_biases(graph: onnx.GraphProto) -> None:
    """Give each layer a bias of its own; onnxruntime would copy shared ones under new names."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in OPERATORS and len(node.input) > 2 and node.input[2] in tensors:
            bias = onnx.TensorProto()
            bias.CopyFrom(tensors[node.input[2]])
            bias.name = node.input[2] = f'{node.name}/bias'
            graph.initializer.append(bias)


def _reader(quantization, name: str, samples: np.ndarray, say: Callable[[str], None]):
    """Return a reader of the samples, in batches."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.start = 0

        def get_next(self) -> dict | None:
            if self.start >= len(samples):
                return None
            batch = samples[self.start : self.start + BATCH]
            self.start += len(batch)
            if self.start % (8 * BATCH) == 0 or self.start == len(samples):
                say(f'  {self.start} of {len(samples)} crops')
            return {name: batch}

    return Reader()


def _restore(graph: onnx.GraphProto, layers: Collection[str]) -> set[str]:
    """Bypass the quantization of the inputs and outputs of layers.

    Args:
        graph: changed in place.
        layers: names of the nodes.

    Returns:
        Names of the weights that they need again.
    """
    producers = {name: node for node in graph.node for name in node.output}
    groups = {group_of(name) for name in layers}  # with the ReLU after a layer
    weights = set()
    for node in graph.node:
        is_quantized = node.op_type in OPERATORS and node.name not in layers
        for index, name in enumerate(node.input):
            dequantize = producers.get(name)
            if dequantize is None or dequantize.op_type != 'DequantizeLinear':
                continue
            quantize = producers.get(dequantize.input[0])
            if quantize is None:
                if node.name in layers:
                    weights.add(dequantize.input[0].removesuffix(SUFFIX))
                    # A name of its own: that of a bias is the output's of its DequantizeLinear.
                    node.input[index] = dequantize.input[0].removesuffix(SUFFIX) + FLOAT
                continue
            source = producers.get(quantize.input[0])
            if node.name in layers or (
                source is not None and group_of(source.name) in groups and not is_quantized
            ):
                node.input[index] = quantize.input[0]
    return weights


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that nothing reads."""
    needed = {value.name for value in graph.output}
    used = []
    for node in reversed(graph.node):  # topological order
        if needed & {*node.output}:
            needed.update(node.input)
            used.append(node)
    del graph.node[:]
    graph.node.extend(reversed(used))
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
