"""Exported networks: what they say of themselves, and how onnxruntime and OpenVINO run them.

Shapes: N crops, K keypoints, h and w of the input.
"""

import importlib.util
import json
import math
import operator
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import ConfigError, WeightsError
from ..imaging.skeleton import Skeleton
from . import digest

KEY = 'hrformer_mmpose'  # under which a file holds its description
FORMAT = 1
BACKENDS = {'onnxruntime': 'pip install onnxruntime', 'openvino': 'pip install openvino'}
SUFFIXES = {'.onnx': ('onnxruntime', 'openvino'), '.xml': ('openvino',)}
OPENVINO_PRECISIONS = {'float32': 'f32', 'float16': 'f32', 'bfloat16': 'bf16'}


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself.

    Attributes:
        config: its name. checkpoint: the weights' file, sha256: of that file. version: of this
            package. created: date.
        input_size: (w, h). padding: crop over box. udp: how crops are measured (`runtime.crops`).
        mean, std: of the normalisation, by channel; rgb: whether the network wants red first.
        normalise: it takes crops as they are, (N, h, w, 3) BGR uint8; otherwise (N, 3, h, w)
            float32, normalised.
        decode: it gives keypoints and scores; otherwise heatmaps.
        codec: the config's decoder. flip_test: it averages over the mirror image.
        precision: 'float32', 'float16' or 'bfloat16'.
        keypoints, links, flip_indices: see `Skeleton`.
    """

    config: str
    checkpoint: str
    sha256: str
    version: str
    created: str
    input_size: tuple[int, int]
    padding: float
    udp: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rgb: bool
    normalise: bool
    decode: bool
    codec: dict
    flip_test: bool
    precision: str
    keypoints: tuple[str, ...]
    links: tuple[tuple[int, int], ...]
    flip_indices: tuple[int, ...]
    format: int = field(default=FORMAT)

    def __post_init__(self):
        """Raise a ValueError or TypeError for values that no export writes."""
        w, h = map(operator.index, self.input_size)
        numbers = (self.padding, *self.mean, *self.std)
        if not (min(w, h, self.padding, *self.std) > 0 and all(map(math.isfinite, numbers))):
            raise ValueError('sizes and normalisation')
        if len(self.mean) != 3 or len(self.std) != 3 or self.precision not in OPENVINO_PRECISIONS:
            raise ValueError('channels or precision')
        count = range(len(self.keypoints))
        ends = [end for link in self.links for end in link]
        if sorted(self.flip_indices) != [*count] or not {*ends} <= {*count}:
            raise ValueError('keypoints')

    @property
    def skeleton(self) -> Skeleton:
        """What the keypoints are."""
        return Skeleton(
            tuple(self.keypoints), tuple(map(tuple, self.links)), tuple(self.flip_indices)
        )

    def to_json(self) -> str:
        """Text for the file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None, path: str | Path) -> 'Description':
        """From a file's text.

        Raises:
            WeightsError: there is none, or it is of another format.
        """
        try:
            values = json.loads(text or '')
            if values['format'] != FORMAT:
                raise WeightsError(
                    f"'{path}' is of format {values['format']}, this version reads {FORMAT}: "
                    'export the network again'
                )
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"'{path}' was not written by `hrformer export`: it does not say what its input "
                'and output are'
            ) from error


class ExportedNetwork:
    """A `Network` that a backend runs.

    Args:
        description: of the file. path: for messages.

    Attributes:
        backend: its name.
    """

    backend: str

    def __init__(self, description: Description, path: str | Path):
        self.description, self.path = description, path
        self.input_size = tuple(description.input_size)
        self.padding, self.udp = description.padding, description.udp
        self.skeleton = description.skeleton

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crops (N, h, w, 3) BGR uint8 -> keypoints (N, K, 2) of the input, scores (N, K).

        Raises:
            WeightsError: the file gives heatmaps.
        """
        if not self.description.decode:
            raise WeightsError(
                f"'{self.path}' gives heatmaps; to get poses export it with decoding (the default)"
            )
        outputs = self.outputs(self.prepared(batch))
        shape = len(batch), len(self.skeleton.names)
        if [values.shape for values in outputs] != [(*shape, 2), shape]:
            shapes = ', '.join(str(values.shape) for values in outputs)
            raise WeightsError(
                f"'{self.path}' gives arrays of {shapes} for {len(batch)} persons, not keypoints "
                f'{(*shape, 2)} and scores {shape}: export the network again'
            )
        return tuple(outputs)

    def prepared(self, batch: np.ndarray) -> np.ndarray:
        """Crops (N, h, w, 3) BGR uint8 as the file wants them."""
        known = self.description
        if known.normalise:
            return batch
        batch = batch[..., ::-1] if known.rgb else batch
        batch = (batch.astype(np.float32) - np.float32(known.mean)) / np.float32(known.std)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

    def outputs(self, batch: np.ndarray) -> list[np.ndarray]:
        """Outputs for a batch of the form that the file takes.

        Raises:
            WeightsError: the backend fails.
        """
        try:
            return self._run(batch)
        except Exception as error:  # each backend's own classes, which are not public
            raise WeightsError(f"'{self.path}' cannot be run: {_last_line(error)}") from error

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError


class OnnxNetwork(ExportedNetwork):
    """Runs a file by onnxruntime, on CUDA where that build knows it.

    Args:
        path: `.onnx`. threads: of the CPU, all by default.

    Raises:
        ImportError: onnxruntime is not installed. WeightsError: see `open_network`.
    """

    backend = 'onnxruntime'

    def __init__(self, path: str | Path, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal: errors are raised, too
        if threads:
            options.intra_op_num_threads = threads
        wanted = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        known = onnxruntime.get_available_providers()
        providers = [name for name in wanted if name in known]
        try:
            # A second try on the CPU, which onnxruntime announces, is none after the first there.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=providers, enable_fallback=len(providers) > 1
            )
            text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
            self._input = self._session.get_inputs()[0].name
        except Exception as error:  # onnxruntime's own classes, which are not public
            raise WeightsError(_unreadable(path, error)) from error
        super().__init__(Description.from_json(text, path), path)

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        return self._session.run(None, {self._input: batch})


class OpenVinoNetwork(ExportedNetwork):
    """Runs a file by OpenVINO on the CPU, in the precision that the file was exported for.

    A single crop is computed by all threads together; of several, each thread takes one after the
    other, which is faster than a batch (docs/export.md). So the network is compiled twice at most,
    when first needed, whatever the numbers of crops.

    Args:
        path: `.xml` or `.onnx`. threads: of the CPU, all by default.

    Raises:
        ImportError: OpenVINO is not installed. WeightsError: see `open_network`.
    """

    backend = 'openvino'

    def __init__(self, path: str | Path, threads: int | None = None):
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(str(path))
            text = _openvino_text(self._model)
            self._model.reshape([1, *list(self._model.input().partial_shape)[1:]])
        except (RuntimeError, ValueError) as error:  # the latter of text that is not UTF-8
            raise WeightsError(_unreadable(path, error)) from error
        super().__init__(Description.from_json(text, path), path)
        self._settings = {
            'INFERENCE_PRECISION_HINT': OPENVINO_PRECISIONS[self.description.precision],
            **({'INFERENCE_NUM_THREADS': threads} if threads else {}),
        }
        self._queues: dict[str, object] = {}

    def _run(self, batch: np.ndarray) -> list[np.ndarray]:
        queue = self._queue('LATENCY' if len(batch) == 1 else 'THROUGHPUT')
        found: list = [None] * len(batch)

        def keep(request, number: int) -> None:
            found[number] = [np.array(value.data) for value in request.output_tensors]

        queue.set_callback(keep)
        for number in range(len(batch)):
            queue.start_async([batch[number : number + 1]], number)
        queue.wait_all()
        return [np.concatenate(values) for values in zip(*found, strict=True)]

    def _queue(self, hint: str):
        """Requests to the network compiled for latency or throughput."""
        if hint not in self._queues:
            settings = {**self._settings, 'PERFORMANCE_HINT': hint}
            compiled = self._core.compile_model(self._model, 'CPU', settings)
            self._queues[hint] = self._openvino.AsyncInferQueue(compiled)
        return self._queues[hint]


def open_network(
    path: str | Path, backend: str | None = None, threads: int | None = None
) -> ExportedNetwork:
    """The network of a file that `hrformer export` wrote.

    Args:
        path: `.onnx` or `.xml`. backend: 'onnxruntime' or 'openvino'; by default the first that is
            installed and reads the file. threads: of the CPU, all by default.

    Raises:
        WeightsError: the file is missing, broken, changed, or not one of ours.
        ConfigError: the backend is unknown or does not read such files; too many threads.
        ImportError: it is not installed.
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
    digest.check(Path(path))  # first: what reads damaged files may crash
    if backend == 'onnxruntime':
        return OnnxNetwork(path, threads)
    return OpenVinoNetwork(path, threads)


def check_threads(threads: int | None) -> None:
    """Raise a `ConfigError` for a number of threads that the machine is no good for.

    The backends start all of them at once; 256 take more than a minute on two processors.
    """
    processors = os.cpu_count() or 1
    most = max(16, 4 * processors)
    if threads is not None and not 1 <= threads <= most:
        raise ConfigError(
            f'threads={threads}: give 1 to {most} (this machine has {processors} processors)'
        )


def _openvino_text(model) -> str | None:
    # In its own files at the top, in ONNX files under the name of the format.
    for place in ([KEY], ['framework', KEY]):
        if model.has_rt_info(place):
            return model.get_rt_info(place).astype(str)
    return None


def _unreadable(path: str | Path, error: Exception) -> str:
    return f"'{path}' cannot be read as a network: {_last_line(error)}"


def _last_line(error: Exception) -> str:
    """The last line of a backend's message, which holds the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
