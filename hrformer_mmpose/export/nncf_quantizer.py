"""Post-training quantization for OpenVINO, by NNCF."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from . import files
from .layers import group_of

BATCH = 8
# Quantizers move through these; all operators but these and `WEIGHTED` stay float.
LAYOUT = (
    'Constant', 'Convert', 'Gather', 'Parameter', 'Reshape', 'Result', 'ShapeOf', 'Slice', 'Split',
    'Squeeze', 'StridedSlice', 'Transpose', 'Unsqueeze', 'VariadicSplit',
)  # fmt: skip
WEIGHTED = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'MatMul')
OUTSIDE = r'^(?!/(backbone|neck|head)/).*'


class NncfQuantizer:
    """A network quantized for OpenVINO.

    Weights have a scale a channel, activations one a tensor. Biases are corrected for the mean
    error.

    Args:
        source: float32 network as ONNX.
        samples: inputs to calibrate on, (N, ...).
        float_nodes: names of nodes that are never quantized.

    Raises:
        ImportError: NNCF or OpenVINO is missing; names the package to install.
    """

    suffix = '.xml'

    def __init__(self, source: Path, samples: np.ndarray, float_nodes: Sequence[str]):
        files.require('--precision int8', 'nncf', 'openvino')
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        self._openvino, self._core = openvino, openvino.Core()
        self._float = {op.get_friendly_name(): op for op in self._core.read_model(source).get_ops()}
        types = {op.get_type_name() for op in self._float.values()} - {*WEIGHTED, *LAYOUT}
        batches = [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]
        self._quantized = nncf.quantize(
            self._core.read_model(source),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(
                names=[*float_nodes], types=sorted(types), patterns=[OUTSIDE], validate=False
            ),
        )

    def groups(self) -> list[str]:
        """Return the groups of layers that are quantized, in the order of the network."""
        names = [
            op.get_friendly_name()
            for op in self._quantized.get_ordered_ops()
            if op.get_type_name() in WEIGHTED and _is_quantized(op.input_value(0))
        ]
        return [*dict.fromkeys(group for group in map(group_of, names) if group)]

    def model(self, float_groups: Collection[str] = ()):
        """Return the network as `openvino.Model`, with these groups in float32 again."""
        model = self._quantized.clone()
        for op in model.get_ops():
            if group_of(op.get_friendly_name()) in float_groups:
                self._restore(op)
        model.validate_nodes_and_infer_types()
        return model

    def tensor(self, name: str, samples: np.ndarray, float_groups: Collection[str]) -> np.ndarray:
        """Compute a tensor of the network by its name, see `model`."""
        model = self.model(float_groups)
        model.reshape(list(samples.shape))  # a free batch size is planned twice
        outputs = (output for op in model.get_ops() for output in op.outputs())
        model.add_outputs(next(output for output in outputs if name in output.get_names()))
        settings = dict(
            INFERENCE_PRECISION_HINT='f32', INFERENCE_NUM_THREADS=torch.get_num_threads()
        )
        compiled = self._core.compile_model(model, 'CPU', settings)
        return compiled([samples])[len(model.outputs) - 1]

    def save(
        self, path: Path, metadata: dict[str, str], float_groups: Collection[str] = ()
    ) -> None:
        """Write the network as `.xml` and `.bin`.

        Args:
            path: of the `.xml`.
            metadata: text by key.
            float_groups: see `model`.
        """
        model = self.model(float_groups)
        for key, text in metadata.items():
            model.set_rt_info(text, key)
        self._openvino.save_model(model, path, compress_to_fp16=False)

    def _restore(self, op) -> None:
        """Give a layer its float32 inputs and weights again."""
        for port in op.inputs():
            if port.get_source_output().get_node().get_type_name() == 'FakeQuantize':
                port.replace_source_output(port.get_source_output().get_node().input_value(0))
        before = self._float.get(op.get_friendly_name())
        if before is None or op.get_type_name() not in WEIGHTED:
            return
        weights = before.input_value(1).get_node()
        if weights.get_type_name() == 'Constant':
            constant = self._openvino.opset13.constant(weights.get_data())
            op.input(1).replace_source_output(constant.output(0))


def _is_quantized(output) -> bool:
    return output.get_node().get_type_name() == 'FakeQuantize'
