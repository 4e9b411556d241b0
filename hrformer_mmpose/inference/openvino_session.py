"""Networks run by OpenVINO, on the CPU, on a GPU, or on the device that it selects."""

import threading
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .description import KEY
from .device_names import DEVICES, split_device

# Precision of the arithmetic by precision of the file. CPUs have no float16, GPUs no bfloat16. An
# int8 file says itself which layers are quantized; the others are float32.
PRECISIONS = {'float32': 'f32', 'float16': 'f32', 'bfloat16': 'bf16', 'int8': 'f32'}
GPU_PRECISIONS = PRECISIONS | {'float16': 'f16', 'bfloat16': 'f16'}


class OpenVinoSession:
    """Session of OpenVINO.

    All threads compute a single crop together. Of several crops each thread computes one at a time,
    which is faster than a batch (docs/export.md). The network is thus compiled at most twice,
    on demand, for any number of crops.

    Args:
        path: `.xml` or `.onnx` file.
        threads: CPU threads; None uses all.
        device: 'cpu', 'gpu', 'gpu:1' or 'auto' (OpenVINO selects); None is 'cpu'.

    Attributes:
        metadata: text of the file's description, or None.
        precision: of the file, a key of `PRECISIONS`; to be set before the first `run`.

    Raises:
        ConfigError: no such device.
        RuntimeError: OpenVINO cannot read the file.
        ValueError: text in the file is not UTF-8.
    """

    backend = 'openvino'

    def __init__(self, path: str | Path, threads: int | None = None, device: str | None = None):
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        self._device = _device_name(self._core, device or 'cpu')
        self._threads, self.precision = threads, 'float32'
        self._model = self._core.read_model(str(path))
        self.metadata = _metadata(self._model)
        self._model.reshape([1, *list(self._model.input().partial_shape)[1:]])
        self._queues: dict[str, object] = {}
        self._lock = threading.Lock()  # a queue has one callback

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs for a batch; calls of several threads wait for each other."""
        outputs: list = [None] * len(batch)

        def store(request, number: int) -> None:
            outputs[number] = [np.array(value.data) for value in request.output_tensors]

        with self._lock:
            queue = self._queue('LATENCY' if len(batch) == 1 else 'THROUGHPUT')
            queue.set_callback(store)
            for number in range(len(batch)):
                queue.start_async([batch[number : number + 1]], number)
            queue.wait_all()
        return [np.concatenate(values) for values in zip(*outputs, strict=True)]

    def _queue(self, hint: str):
        """Return the request queue of the network compiled for 'LATENCY' or 'THROUGHPUT'."""
        if hint not in self._queues:
            settings = {**self.settings(), 'PERFORMANCE_HINT': hint}
            compiled = self._core.compile_model(self._model, self._device, settings)
            self._queues[hint] = self._openvino.AsyncInferQueue(compiled)
        return self._queues[hint]

    def settings(self) -> dict:
        """Return precision and threads as properties of OpenVINO."""
        if self._device.startswith('GPU'):  # it has no property for threads
            return {'INFERENCE_PRECISION_HINT': GPU_PRECISIONS[self.precision]}
        threads = {'INFERENCE_NUM_THREADS': self._threads} if self._threads else {}
        return {'INFERENCE_PRECISION_HINT': PRECISIONS[self.precision], **threads}


def _device_name(core, device: str) -> str:
    """Return OpenVINO's name of a device.

    Raises:
        ConfigError: unknown, or OpenVINO does not find it.
    """
    kind, number = split_device(device, DEVICES['openvino'])
    if kind != 'gpu':
        return kind.upper()
    present = [name for name in core.available_devices if name.partition('.')[0] == 'GPU']
    if number < len(present):
        return sorted(present)[number]  # 'GPU' if there is one, else 'GPU.0', 'GPU.1', ...
    count = f'{len(present)} GPU{"" if len(present) == 1 else "s"}' if present else 'no GPU'
    raise ConfigError(
        f'device={device!r}: OpenVINO finds {count} here: it needs an Intel GPU and its driver for '
        "OpenCL (package intel-opencl-icd); 'auto' and 'cpu' need neither"
    )


def _metadata(model) -> str | None:
    # OpenVINO files store metadata at the top level, ONNX files under 'framework'.
    for place in ([KEY], ['framework', KEY]):
        if model.has_rt_info(place):
            return model.get_rt_info(place).astype(str)
    return None
