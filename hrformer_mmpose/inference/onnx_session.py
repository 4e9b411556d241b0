"""Networks run by onnxruntime, on the CPU or by its CUDA or TensorRT provider."""

import contextlib
import importlib
import io
from pathlib import Path

import numpy as np

from ..errors import DeviceError, device_problem
from . import tensorrt_engines
from .description import KEY, Description
from .device_names import split_device

CPU, CUDA, TENSORRT = (f'{name}ExecutionProvider' for name in ('CPU', 'CUDA', 'Tensorrt'))
# A node that a provider lacks is computed by the next one.
PROVIDERS = {'cpu': (CPU,), 'cuda': (CUDA, CPU), 'tensorrt': (TENSORRT, CUDA, CPU)}
GPU_PACKAGE = "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime"
PACKAGES = {
    'cuda': GPU_PACKAGE,
    'tensorrt': f'{GPU_PACKAGE}, and pip install tensorrt',
}

_WARNING, _FATAL = 2, 4  # onnxruntime's severities; the first one is its default


class OnnxSession:
    """Session of onnxruntime.

    Args:
        path: `.onnx` file.
        threads: CPU threads; None uses all.
        device: 'cpu', 'cuda', 'cuda:1', 'tensorrt', ...; None uses CUDA if the build supports it.

    Attributes:
        metadata: text of the file's description, or None.

    Raises:
        ConfigError: no such device.
        DeviceError: the device's libraries do not load.
        ImportError: this build of onnxruntime lacks the provider; names the package to install.
        WeightsError: no description, which TensorRT needs.
        Exception: onnxruntime cannot read the file.
    """

    backend = 'onnxruntime'

    def __init__(self, path: str | Path, threads: int | None = None, device: str | None = None):
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if device is None:
            providers: list = [name for name in PROVIDERS['cuda'] if name in available]
            # Without CUDA, disable the fallback: it would print and try the CPU again.
            self._session = open_session(
                path, providers, threads, enable_fallback=len(providers) > 1
            )
        else:
            kind, number = split_device(device, PROVIDERS)
            _check_provider(device, PROVIDERS[kind][0], available, PACKAGES.get(kind))
            self._session = self._open_on(path, threads, device, kind, number)
        self._largest_batch = None
        if device is not None and device.startswith('tensorrt'):
            self._largest_batch = tensorrt_engines.LARGEST_BATCH
        self.metadata = _metadata(self._session)
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs for a batch."""
        n = self._largest_batch or len(batch)
        parts = [batch[start : start + n] for start in range(0, len(batch), n)]
        outputs = [self._session.run(None, {self._input: part}) for part in parts]
        return [np.concatenate(values) for values in zip(*outputs, strict=True)]

    def _open_on(self, path, threads: int | None, device: str, kind: str, number: int):
        """Open a session whose first provider must start."""
        if kind == 'cpu':
            return open_session(path, [CPU], threads)
        _preload_libraries(with_tensorrt=kind == 'tensorrt')
        failure = DeviceError(
            f'device={device!r}: onnxruntime cannot start its {PROVIDERS[kind][0]}: the libraries '
            f'of the GPU are missing or do not fit ({PACKAGES[kind]})'
        )
        options = {CUDA: dict(device_id=number), CPU: {}}
        if kind == 'tensorrt':
            if tensorrt_engines.version() == tensorrt_engines.UNKNOWN:
                raise failure
            plain = open_session(path, [CPU], 1, optimize=False)
            description = Description.from_json(_metadata(plain), path)
            shape = [str(size) for size in plain.get_inputs()[0].shape[1:]]
            name = plain.get_inputs()[0].name
            options[TENSORRT] = tensorrt_engines.options(
                path, description.precision, name, shape, number
            )
        providers = [(name, options[name]) for name in PROVIDERS[kind]]
        try:
            session = open_session(path, providers, threads)
        except RuntimeError as error:  # TensorRT's libraries are missing, or memory is
            if device_problem(error, ''):
                raise
            raise failure from error
        # Without CUDA's libraries it goes on with the next provider, and only prints.
        if session.get_providers()[:1] != [PROVIDERS[kind][0]]:
            raise failure
        return session


def _check_provider(device: str, provider: str, available: list[str], package: str | None) -> None:
    if provider not in available:
        raise ImportError(
            f'device={device!r} needs the {provider}, which this onnxruntime does not have: '
            f'{package}'
        )


def open_session(
    path: str | Path,
    providers: list,
    threads: int | None = None,
    enable_fallback: bool = False,
    optimize: bool = True,
):
    """Open a session of onnxruntime that prints nothing: its errors are raised, too.

    Args:
        path: `.onnx` file.
        providers: names of onnxruntime's providers, or (name, options).
        threads: CPU threads; None uses all.
        enable_fallback: try the CPU if a provider does not start, with lines on the terminal.
        optimize: optimize the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    if threads:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # A provider's own lines, about devices and libraries, go to the logger of all sessions.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=providers, enable_fallback=enable_fallback
        )
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _metadata(session) -> str | None:
    return session.get_modelmeta().custom_metadata_map.get(KEY)


def _preload_libraries(with_tensorrt: bool) -> None:
    """Load the GPU's libraries from Python packages, which the system's loader does not find."""
    import onnxruntime

    preload = getattr(onnxruntime, 'preload_dlls', None)  # since 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            preload()
    if with_tensorrt:
        with contextlib.suppress(ImportError):  # then a library of the system's is used
            importlib.import_module('tensorrt')
