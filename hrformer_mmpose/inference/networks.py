"""Networks behind one interface; exported networks (`onnx_session`, `openvino_session`).

Shapes: N crops, K keypoints, (w, h) of the input.
"""

import importlib.util
import os
from abc import abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ConfigError, UserError, WeightsError
from ..imaging.skeleton import Skeleton
from . import digest
from .description import Description
from .device_names import DEVICES, backends_with, split_device
from .onnx_session import OnnxSession
from .openvino_session import OpenVinoSession

BACKENDS = {'onnxruntime': 'pip install onnxruntime', 'openvino': 'pip install openvino'}
SESSIONS = {'onnxruntime': OnnxSession, 'openvino': OpenVinoSession}
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
    """Network in an exported file.

    Args:
        session: runs the file.
        description: of the file.
        path: for error messages.

    Attributes:
        backend: name of the backend.
    """

    def __init__(
        self, session: OnnxSession | OpenVinoSession, description: Description, path: str | Path
    ):
        self.session, self.description, self.path = session, description, path
        self.backend = session.backend
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
            return self.session.run(batch)
        except Exception as error:  # the backends' error classes are not public
            raise WeightsError(f"'{self.path}' cannot be run: {_last_line(error)}") from error


def open_network(
    path: str | Path,
    backend: str | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> ExportedNetwork:
    """Open a file written by `hrformer export`.

    Args:
        path: `.onnx` or `.xml` file.
        backend: 'onnxruntime' or 'openvino'; None selects the first one that is installed, reads
            the file and has the device.
        threads: CPU threads; None leaves the number to the backend.
        device: 'cpu'; of onnxruntime 'cuda' and 'tensorrt'; of OpenVINO 'gpu' (Intel) and 'auto';
            'cuda:1' and the like select one of several GPUs. None is 'cuda' if onnxruntime is
            built for it, else 'cpu'.

    Raises:
        WeightsError: the file is missing, broken, changed, or not an export of this package.
        ConfigError: the backend is unknown, does not read such files or lacks the device; the
            device is not in this machine; too many threads.
        DeviceError: the device's libraries do not load.
        ImportError: the backend or its provider for the device is not installed.
    """
    check_threads(threads)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise WeightsError(f"'{path}' is neither an .onnx nor an .xml file")
    if not Path(path).is_file():
        raise WeightsError(f"network '{path}' does not exist")
    backend = _select_backend(path, suffix, backend, device)
    if importlib.util.find_spec(backend) is None:
        raise ImportError(f"'{path}' needs the package {backend}: {BACKENDS[backend]}")
    digest.check(Path(path))  # before opening: backends may crash on damaged files
    try:
        session = SESSIONS[backend](path, threads, device)
    except (UserError, ImportError):
        raise
    except Exception as error:  # the backends' error classes are not public
        raise WeightsError(_unreadable(path, error)) from error
    description = Description.from_json(session.metadata, path)
    session.precision = description.precision
    return ExportedNetwork(session, description, path)


def _select_backend(path: str | Path, suffix: str, backend: str | None, device: str | None) -> str:
    """Return the backend to use, or raise a `ConfigError`."""
    if backend is not None and backend not in BACKENDS:
        raise ConfigError(f'backend={backend!r} is not one of {", ".join(BACKENDS)}')
    if backend is not None and backend not in SUFFIXES[suffix]:
        raise ConfigError(f"{backend} does not read {suffix} files: '{path}'")
    if backend is not None:
        if device is not None:
            split_device(device, DEVICES[backend])
        return backend
    readers = SUFFIXES[suffix]
    if device is not None:
        readers = [name for name in backends_with(device) if name in readers]
        if not readers:
            raise ConfigError(
                f'device={device!r} is one of {backends_with(device)[0]}, which does not read '
                f"{suffix} files: '{path}'"
            )
    installed = [name for name in readers if importlib.util.find_spec(name)]
    return (installed or readers)[0]


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


def _unreadable(path: str | Path, error: Exception) -> str:
    return f"'{path}' cannot be read as a network: {_last_line(error)}"


def _last_line(error: Exception) -> str:
    """Return the last line of a backend's message, which contains the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
