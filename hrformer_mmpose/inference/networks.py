"""Networks behind one interface; exported networks, run by onnxruntime or OpenVINO.

Shapes: N crops, K keypoints, (w, h) of the input.
"""

import importlib.util
import os
from abc import abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ConfigError, WeightsError
from ..imaging.skeleton import Skeleton
from . import digest
from .description import KEY, OPENVINO_PRECISIONS, Description

BACKENDS = {'onnxruntime': 'pip install onnxruntime', 'openvino': 'pip install openvino'}
SUFFIXES = {'.onnx': ('onnxruntime', 'openvino'), '.xml': ('openvino',)}


class Network(Protocol):
    """Map from crops to keypoints.

    Attributes:
        input_size: (w, h) in pixels.
        padding: size of the crop relative to the box.
        udp: geometry of the crops, see `imaging.crops`.
        skeleton: definition of the keypoints.
    """

    input_size: tuple[int, int]
    padding: float
    udp: bool
    skeleton: Skeleton

    @abstractmethod
    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map crops (N, h, w, 3) BGR uint8 to keypoints (N, K, 2) of the input, scores (N, K)."""


class ExportedNetwork:
    """Base class of networks in exported files.

    Args:
        description: of the file.
        path: for error messages.

    Attributes:
        backend: name of the backend.
    """

    backend: str

    def __init__(self, description: Description, path: str | Path):
        self.description, self.path = description, path
        self.input_size = tuple(description.input_size)
        self.padding, self.udp = description.padding, description.udp
        self.skeleton = description.skeleton

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map crops (N, h, w, 3) BGR uint8 to keypoints (N, K, 2) of the input, scores (N, K).

        Raises:
            WeightsError: the file outputs heatmaps, or arrays of another shape.
        """
        if not self.description.decode:
            raise WeightsError(
                f"'{self.path}' gives heatmaps; to get poses export it with decoding (the default)"
            )
        outputs = self.outputs(self.preprocess(batch))
        shape = len(batch), len(self.skeleton.names)
        if [values.shape for values in outputs] != [(*shape, 2), shape]:
            shapes = ', '.join(str(values.shape) for values in outputs)
            raise WeightsError(
                f"'{self.path}' gives arrays of {shapes} for {len(batch)} persons, not keypoints "
                f'{(*shape, 2)} and scores {shape}: export the network again'
            )
        return tuple(outputs)

    def preprocess(self, batch: np.ndarray) -> np.ndarray:
        """Convert crops (N, h, w, 3) BGR uint8 to the file's input."""
        about = self.description
        if about.normalise:
            return batch
        batch = batch[..., ::-1] if about.rgb else batch
        batch = (batch.astype(np.float32) - np.float32(about.mean)) / np.float32(about.std)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

    def outputs(self, batch: np.ndarray) -> list[np.ndarray]:
        """Run the network on the output of `preprocess`.

        Raises:
            WeightsError: the backend fails.
        """
        try:
            return self._run(batch)
        except Exception as error:  # the backends' error classes are not public
            raise WeightsError(f"'{self.path}' cannot be run: {_last_line(error)}") from error

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError


class OnnxNetwork(ExportedNetwork):
    """Network run by onnxruntime, on CUDA if its build supports it.

    Args:
        path: `.onnx` file.
        threads: CPU threads; None uses all.

    Raises:
        ImportError: onnxruntime is not installed.
        WeightsError: see `open_network`.
    """

    backend = 'onnxruntime'

    def __init__(self, path: str | Path, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal: errors are raised, too
        if threads:
            options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        preferred = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        providers = [name for name in preferred if name in available]
        try:
            # Without CUDA, disable the fallback: it would print and try the CPU again.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=providers, enable_fallback=len(providers) > 1
            )
            text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
            self._input = self._session.get_inputs()[0].name
        except Exception as error:  # the error classes of onnxruntime are not public
            raise WeightsError(_unreadable(path, error)) from error
        super().__init__(Description.from_json(text, path), path)

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {self._input: batch})


class OpenVinoNetwork(ExportedNetwork):
    """Network run by OpenVINO on the CPU, in the precision of the export.

    All threads compute a single crop together. Of several crops each thread computes one at a time,
    which is faster than a batch (docs/export.md). The network is thus compiled at most twice,
    on demand, for any number of crops.

    Args:
        path: `.xml` or `.onnx` file.
        threads: CPU threads; None uses all.

    Raises:
        ImportError: OpenVINO is not installed.
        WeightsError: see `open_network`.
    """

    backend = 'openvino'

    def __init__(self, path: str | Path, threads: int | None = None):
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(str(path))
            text = _openvino_metadata(self._model)
            self._model.reshape([1, *list(self._model.input().partial_shape)[1:]])
        except (RuntimeError, ValueError) as error:  # ValueError: text is not UTF-8
            raise WeightsError(_unreadable(path, error)) from error
        super().__init__(Description.from_json(text, path), path)
        self._settings = {
            'INFERENCE_PRECISION_HINT': OPENVINO_PRECISIONS[self.description.precision],
            **({'INFERENCE_NUM_THREADS': threads} if threads else {}),
        }
        self._queues: dict[str, object] = {}

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        queue = self._queue('LATENCY' if len(batch) == 1 else 'THROUGHPUT')
        outputs: list = [None] * len(batch)

        def store(request, number: int) -> None:
            outputs[number] = [np.array(value.data) for value in request.output_tensors]

        queue.set_callback(store)
        for number in range(len(batch)):
            queue.start_async([batch[number : number + 1]], number)
        queue.wait_all()
        return [np.concatenate(values) for values in zip(*outputs, strict=True)]

    def _queue(self, hint: str):
        """Return the request queue of the network compiled for 'LATENCY' or 'THROUGHPUT'."""
        if hint not in self._queues:
            settings = {**self._settings, 'PERFORMANCE_HINT': hint}
            compiled = self._core.compile_model(self._model, 'CPU', settings)
            self._queues[hint] = self._openvino.AsyncInferQueue(compiled)
        return self._queues[hint]


def open_network(
    path: str | Path, backend: str | None = None, threads: int | None = None
) -> ExportedNetwork:
    """Open a file written by `hrformer export`.

    Args:
        path: `.onnx` or `.xml` file.
        backend: 'onnxruntime' or 'openvino'; None selects the first one that is installed and
            reads the file.
        threads: CPU threads; None uses all.

    Raises:
        WeightsError: the file is missing, broken, changed, or not an export of this package.
        ConfigError: the backend is unknown or does not read such files; too many threads.
        ImportError: the backend is not installed.
    """
    check_threads(threads)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise WeightsError(f"'{path}' is neither an .onnx nor an .xml file")
    if not Path(path).is_file():
        raise WeightsError(f"network '{path}' does not exist")
    if backend is None:
        installed = [name for name in SUFFIXES[suffix] if importlib.util.find_spec(name)]
        backend = (installed or SUFFIXES[suffix])[0]
    if backend not in BACKENDS:
        raise ConfigError(f'backend={backend!r} is not one of {", ".join(BACKENDS)}')
    if backend not in SUFFIXES[suffix]:
        raise ConfigError(f"{backend} does not read {suffix} files: '{path}'")
    if importlib.util.find_spec(backend) is None:
        raise ImportError(f"'{path}' needs the package {backend}: {BACKENDS[backend]}")
    digest.check(Path(path))  # before opening: backends may crash on damaged files
    if backend == 'onnxruntime':
        return OnnxNetwork(path, threads)
    return OpenVinoNetwork(path, threads)


def check_threads(threads: int | None) -> None:
    """Raise a `ConfigError` for more threads than the machine can use.

    The backends start all threads at once: 256 take more than a minute on two processors.
    """
    processors = os.cpu_count() or 1
    most = max(16, 4 * processors)
    if threads is not None and not 1 <= threads <= most:
        raise ConfigError(
            f'threads={threads}: give 1 to {most} (this machine has {processors} processors)'
        )


def _openvino_metadata(model) -> str | None:
    # OpenVINO files store metadata at the top level, ONNX files under 'framework'.
    for place in ([KEY], ['framework', KEY]):
        if model.has_rt_info(place):
            return model.get_rt_info(place).astype(str)
    return None


def _unreadable(path: str | Path, error: Exception) -> str:
    return f"'{path}' cannot be read as a network: {_last_line(error)}"


def _last_line(error: Exception) -> str:
    """Return the last line of a backend's message, which contains the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
