"""Detectors in ONNX files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError, WeightsError, first_line
from ..onnx_session import open_session
from .common import BOX_THRESHOLD, as_rows, image_size, letterbox, nms


@dataclass(frozen=True)
class OutputFormat:
    """Conventions of a family of ONNX detectors.

    Attributes:
        person: class index of persons.
        rgb: channel order of the input is RGB, not BGR.
        mean: subtracted from pixels of 0 to 255, one number or one per channel.
        std: divisor after the mean, one number or one per channel.
        centred: padding on all sides of the image; otherwise right and below.
    """

    person: int
    rgb: bool
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    centred: bool = False


OUTPUT_FORMATS = {
    # MMDetection's RTMDet, as used for persons in MMPose's documentation
    'mmdeploy': OutputFormat(0, False, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    'torchvision': OutputFormat(1, True, 0.0, 255.0),
    'yolox': OutputFormat(0, False, 0.0, 1.0),
    'yolov5': OutputFormat(0, True, 0.0, 255.0, centred=True),
    'yolov8': OutputFormat(0, True, 0.0, 255.0, centred=True),
}
STRIDES = (8, 16, 32)  # of YOLO's three levels


class OnnxDetector:
    """Detector in an ONNX file, run by onnxruntime.

    The outputs determine the format:

    - mmdeploy: `dets` (1, N, 5) of x0, y0, x1, y1, score and `labels` (1, N), as written by
      MMDeploy; further outputs are ignored. BGR, normalized as for RTMDet. MMDetection's YOLOX has
      the same outputs and needs mean=0, std=1.
    - torchvision: outputs named `boxes` (N, 4), `labels` (N), `scores` (N). RGB of 0 to 1.
    - yolox: one output (1, N, 85) of center, size, objectness, 80 classes, with one row for each
      cell of the strides 8, 16, 32. BGR of 0 to 255. Whether boxes are decoded is inferred:
      decoded centers spread over the image, others are near 0, in units of cells.
    - yolov5: like yolox with three rows per cell, always decoded. RGB of 0 to 1.
    - yolov8: one output (1, 84, N) or (1, N, 84) of center, size, 80 classes. RGB of 0 to 1.

    The image is scaled to fit the network's input at constant aspect ratio and padded with grey 114
    to the right and below; for yolov5 and yolov8 on all sides. A torchvision network of variable
    input size receives the image unscaled. In the YOLO formats a row is a person if that is its
    best class; its score is the class score, times the objectness if there is one; overlapping
    boxes are suppressed here.

    Args:
        path: of the file.
        threshold: boxes with a lower score are dropped.
        input_size: (width, height) in pixels. Default for a network of variable input size:
            640 x 640. For another network it must equal the network's.
        person_class: index of the class; by default 1 for torchvision, else 0.
        providers: of onnxruntime, in order of preference; by default the CPU's.
        mean: instead of the format's, see `OutputFormat`.
        std: instead of the format's, see `OutputFormat`.
        rgb: instead of the format's, see `OutputFormat`.
        overlap: for the YOLO formats, maximum intersection over union of two boxes (0.65 as in
            YOLOX's evaluation).

    Attributes:
        output_format: name of the format, a key of `OUTPUT_FORMATS`.

    Raises:
        ImportError: onnxruntime is not installed.
        WeightsError: the file is missing, not an ONNX network, of another format; or (also a call)
            does not run.
        ConfigError: unavailable provider or input size.
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threshold: float = BOX_THRESHOLD,
        input_size: tuple[int, int] | None = None,
        person_class: int | None = None,
        providers: Sequence[str | tuple[str, dict]] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        rgb: bool | None = None,
        overlap: float = 0.65,
    ):
        self.path, self.threshold, self.overlap = os.fspath(path), threshold, overlap
        self._session = _session(self.path, providers)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._read_input(input_size)
        self._decoded = True
        self.output_format = self._named_format() or self._yolo_format()
        defaults = OUTPUT_FORMATS[self.output_format]
        self.person_class = defaults.person if person_class is None else person_class
        self._rgb = defaults.rgb if rgb is None else rgb
        self._mean = np.asarray(defaults.mean if mean is None else mean, np.float32)
        self._std = np.asarray(defaults.std if std is None else std, np.float32)
        if self.output_format == 'torchvision' and self._variable_size and input_size is None:
            self._size = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detect persons in an image (H, W, 3) BGR uint8; return boxes (n, 5)."""
        size = image_size(image)
        pixels, scale, offset = image, np.ones(2), np.zeros(2)
        if self._size is not None:
            centred = OUTPUT_FORMATS[self.output_format].centred
            pixels, scale, offset = letterbox(image, self._size, centred)
        pixels = pixels[..., ::-1] if self._rgb else pixels
        outputs = self._run((pixels.astype(np.float32) - self._mean) / self._std)
        try:
            boxes, scores = self._persons(outputs)
        except (ValueError, IndexError) as error:
            shapes = ', '.join(str(output.shape) for output in outputs)
            raise WeightsError(
                f"'{self.path}' gives arrays of {shapes}, which are no boxes of "
                f'form {self.output_format}'
            ) from error
        boxes = (boxes.astype(np.float64) - np.tile(offset, 2)) / np.tile(scale, 2)
        return as_rows(boxes, scores, size, self.threshold)

    def _read_input(self, input_size: tuple[int, int] | None) -> None:
        """Read name, data type, rank and (height, width) of the network's only input."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        types = {'tensor(float)': np.float32, 'tensor(float16)': np.float16}
        batch_or_none = shape[:-3]
        fits = len(shape) in (3, 4) and (shape[-3] == 3 or not isinstance(shape[-3], int))
        fits = fits and all(not isinstance(n, int) or n == 1 for n in batch_or_none)
        if len(inputs) != 1 or not fits or inputs[0].type not in types:
            names = ', '.join(f'{i.name} {i.type} {i.shape}' for i in inputs)
            raise WeightsError(
                f"'{self.path}' takes {names or 'no input'}: expected one image, float (1, 3, H, W)"
            )
        self._input, self._type = inputs[0].name, types[inputs[0].type]
        self._rank = len(shape)
        fixed = [n if isinstance(n, int) and n > 0 else None for n in shape[-2:]]
        requested = (640, 640) if input_size is None else tuple(input_size)[::-1]
        self._variable_size = None in fixed
        self._size = tuple(b if a is None else a for a, b in zip(fixed, requested, strict=True))
        if input_size is not None and self._size != requested:
            height, width = self._size
            raise ConfigError(
                f"input_size={tuple(input_size)} (width, height): '{self.path}' takes only "
                f'{(width, height)}'
            )

    def _named_format(self) -> str | None:
        """Infer the format from the names of the outputs; None for the YOLO formats."""
        if {'dets', 'labels'} <= {*self._outputs}:
            self._outputs = ['dets', 'labels']
        elif {'boxes', 'labels', 'scores'} <= {*self._outputs}:
            self._outputs = ['boxes', 'labels', 'scores']
        else:
            return None
        return 'mmdeploy' if self._outputs[0] == 'dets' else 'torchvision'

    def _yolo_format(self) -> str:
        """Infer the format from the shape of the only output, by running the network once.

        The file often leaves the shape open, and never states whether boxes are decoded.
        """
        if len(self._outputs) == 1:
            height, width = self._size
            output = self._run(np.full((height, width, 3), 0.5, np.float32))[0]
            cells = sum((height // stride) * (width // stride) for stride in STRIDES)
            if output.ndim == 3 and output.shape[0] == 1 and output.shape[2] == 85:
                if output.shape[1] == cells:
                    # Decoded centers span the image, whatever its content.
                    self._decoded = bool(np.ptp(output[0, :, 0]) > width / 2)
                    return 'yolox'
                if output.shape[1] == 3 * cells:
                    return 'yolov5'
            elif output.ndim == 3 and output.shape[0] == 1 and 84 in output.shape[1:]:
                return 'yolov8'
        listed = ', '.join(f'{o.name} {o.shape}' for o in self._session.get_outputs())
        raise WeightsError(
            f"'{self.path}' gives {listed}: expected dets and labels, or boxes, labels and scores, "
            'or one output (1, N, 85), (1, 84, N) or (1, N, 84)'
        )

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalized pixels (H, W, 3)."""
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1), self._type)
        tensor = tensor[None] if self._rank == 4 else tensor
        try:
            return self._session.run(self._outputs, {self._input: tensor})
        except Exception as error:  # onnxruntime's errors have no common base class
            raise WeightsError(
                f"'{self.path}' does not run on {tensor.shape} ({first_line(error)})"
            ) from error

    def _persons(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Select boxes (n, 4), in pixels of the input, and scores (n,) of persons."""
        if self.output_format == 'torchvision':
            boxes, labels, scores = outputs
            person = labels.reshape(-1) == self.person_class
            return boxes.reshape(-1, 4)[person], scores.reshape(-1)[person]
        if self.output_format == 'mmdeploy':
            dets, labels = outputs
            dets = dets.reshape(-1, 5)[labels.reshape(-1) == self.person_class]
            return dets[:, :4], dets[:, 4]
        rows = outputs[0][0].astype(np.float32)
        is_yolov8 = self.output_format == 'yolov8'
        if is_yolov8 and rows.shape[0] == 84:
            rows = rows.T
        classes = rows[:, 4:] if is_yolov8 else rows[:, 5:]
        scores = classes.max(1)
        if not is_yolov8:
            scores = scores * rows[:, 4]
        if not self._decoded:
            rows = _decode(rows, self._size)
        person = (classes.argmax(1) == self.person_class) & (scores >= self.threshold)
        center, half, scores = rows[person, :2], rows[person, 2:4] / 2, scores[person]
        boxes = np.concatenate([center - half, center + half], 1)
        best = nms(boxes, scores, self.overlap)
        return boxes[best], scores[best]


def _session(path: str, providers: Sequence | None):
    """Open an onnxruntime session; raises like `OnnxDetector`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('an ONNX detector needs onnxruntime: pip install onnxruntime') from error
    if not os.path.isfile(path):
        raise WeightsError(f"ONNX file '{path}' does not exist")
    providers = ['CPUExecutionProvider'] if providers is None else list(providers)
    available = onnxruntime.get_available_providers()
    for provider in providers:
        name = provider if isinstance(provider, str) else provider[0]
        if name not in available:
            raise ConfigError(
                f'onnxruntime has no provider {name!r} here, only {", ".join(available)}'
            )
    try:
        return open_session(path, providers)  # without fallback: the caller lists providers
    except Exception as error:  # onnxruntime's errors have no common base class
        raise WeightsError(
            f"'{path}' ({os.path.getsize(path):,} bytes) is damaged or no ONNX network "
            f'({first_line(error)})'
        ) from error


def _decode(rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Decode center and size of YOLOX's rows (n, 85) to pixels.

    Args:
        rows: center relative to the cell's corner in cells, logarithm of the size in cells, ...
        size: (height, width) of the network's input.
    """
    corners, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), stride))
    corner, stride = np.concatenate(corners), np.concatenate(strides)
    with np.errstate(over='ignore'):  # rows without an object may have any size
        sides = np.exp(rows[:, 2:4]) * stride
    return np.concatenate([(rows[:, :2] + corner) * stride, sides, rows[:, 4:]], 1)
