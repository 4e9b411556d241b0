"""Detectors in ONNX files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError, WeightsError
from .common import (
    as_rows,
    first_line,
    image_size,
    letterbox,
    nms,
)


@dataclass(frozen=True)
class Form:
    """What an ONNX detector wants and gives.

    Attributes:
        person: its class number. rgb: order of the channels it wants. mean, std: what is taken off
            and divided by, for pixels of 0 to 255, one number or one a channel in that order.
        centred: whether the image is put in the middle of the padding, or at the top left.
    """

    person: int
    rgb: bool
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    centred: bool = False


FORMS = {
    # MMDetection's RTMDet, as MMPose's documentation takes it for persons
    'mmdeploy': Form(0, False, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    'torchvision': Form(1, True, 0.0, 255.0),
    'yolox': Form(0, False, 0.0, 1.0),
    'yolov5': Form(0, True, 0.0, 255.0, centred=True),
    'yolov8': Form(0, True, 0.0, 255.0, centred=True),
}
STRIDES = (8, 16, 32)  # of the cells of YOLO's three levels


class OnnxDetector:
    """A detector in an ONNX file, run by onnxruntime. Its outputs tell which form it has:

    - mmdeploy: `dets` (1, N, 5) of x0, y0, x1, y1, score and `labels` (1, N), which MMDeploy
      writes; more outputs are ignored. BGR, normalised as for RTMDet; MMDetection's YOLOX, which
      has the same outputs, wants mean=0, std=1.
    - torchvision: `boxes` (N, 4), `labels` (N), `scores` (N), under these names. RGB of 0 to 1.
    - yolox: one output (1, N, 85) of centre, size, objectness, 80 classes, with one row for each
      cell of the strides 8, 16, 32. BGR of 0 to 255. Boxes may be decoded or not: the centres
      are seen to be spread over the image, or near 0 in units of cells.
    - yolov5: the same with three rows a cell, always decoded. RGB of 0 to 1.
    - yolov8: one output (1, 84, N) or (1, N, 84) of centre, size, 80 classes. RGB of 0 to 1.

    The image keeps its aspect: it is scaled to fit the network's input, sides rounded, and padded
    with grey 114 to the right and below; for yolov5 and yolov8 on all sides. Where the torchvision
    network takes any size, it gets the image as it is. In a yolo form a row counts as a person if
    that is its best class (times the objectness, where there is one), and boxes that overlap a
    better one are dropped here.

    Args:
        path: of the file. threshold: boxes with a lower score are left out.
        input_size: width, height in pixels, for a network that leaves them open (640 x 640
            by default); for another it has to be the network's.
        person_class: number of the class; by default 1 for torchvision, else 0.
        providers: of onnxruntime, in order of preference; by default the CPU's.
        mean, std, rgb: other than the form's, see `Form`.
        overlap: of the yolo forms, intersection over union above which a box is dropped (0.65 is
            that of YOLOX's evaluation).

    Attributes:
        form: name of the form, a key of `FORMS`.

    Raises:
        ImportError: onnxruntime is not installed.
        WeightsError: the file is missing, no ONNX network, or none of these forms; or (also a
            call) does not run.
        ConfigError: a provider or input size that is not there.
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threshold: float = 0.3,
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
        named = self._named_form()
        self._decoded = True
        self.form = named or self._raw_form()
        form = FORMS[self.form]
        self.person_class = form.person if person_class is None else person_class
        self._rgb = form.rgb if rgb is None else rgb
        self._mean = np.asarray(form.mean if mean is None else mean, np.float32)
        self._std = np.asarray(form.std if std is None else std, np.float32)
        if named == 'torchvision' and self._open and input_size is None:
            self._size = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rows (n, 5) of an image (H, W, 3)."""
        size = image_size(image)
        pixels, scales, start = image, np.ones(2), np.zeros(2)
        if self._size is not None:
            pixels, scales, start = letterbox(image, self._size, FORMS[self.form].centred)
        pixels = pixels[..., ::-1] if self._rgb else pixels
        outputs = self._run((pixels.astype(np.float32) - self._mean) / self._std)
        try:
            boxes, scores = self._persons(outputs)
        except (ValueError, IndexError) as error:
            shapes = ', '.join(str(output.shape) for output in outputs)
            raise WeightsError(
                f"'{self.path}' gives arrays of {shapes}, which are no boxes of form {self.form}"
            ) from error
        boxes = (boxes.astype(np.float64) - np.tile(start, 2)) / np.tile(scales, 2)
        return as_rows(boxes, scores, size, self.threshold)

    def _read_input(self, input_size: tuple[int, int] | None) -> None:
        """The network's only input: its name, type, rank, and (height, width)."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        types = {'tensor(float)': np.float32, 'tensor(float16)': np.float16}
        batch_or_none = shape[:-3]
        fits = len(shape) in (3, 4) and (shape[-3] == 3 or not isinstance(shape[-3], int))
        fits = fits and all(not isinstance(n, int) or n == 1 for n in batch_or_none)
        if len(inputs) != 1 or not fits or inputs[0].type not in types:
            found = ', '.join(f'{i.name} {i.type} {i.shape}' for i in inputs)
            raise WeightsError(
                f"'{self.path}' takes {found or 'no input'}: expected one image, float (1, 3, H, W)"
            )
        self._input, self._type = inputs[0].name, types[inputs[0].type]
        self._rank = len(shape)
        fixed = [n if isinstance(n, int) and n > 0 else None for n in shape[-2:]]
        wanted = (640, 640) if input_size is None else tuple(input_size)[::-1]
        self._open = None in fixed
        self._size = tuple(want if n is None else n for n, want in zip(fixed, wanted, strict=True))
        if input_size is not None and self._size != wanted:
            height, width = self._size
            raise ConfigError(
                f"input_size={tuple(input_size)} (width, height): '{self.path}' takes only "
                f'{(width, height)}'
            )

    def _named_form(self) -> str | None:
        """The form that the outputs' names tell."""
        if {'dets', 'labels'} <= {*self._outputs}:
            self._outputs = ['dets', 'labels']
        elif {'boxes', 'labels', 'scores'} <= {*self._outputs}:
            self._outputs = ['boxes', 'labels', 'scores']
        else:
            return None
        return 'mmdeploy' if self._outputs[0] == 'dets' else 'torchvision'

    def _raw_form(self) -> str:
        """The form that the shape of the only output tells, when the network is run once.

        The file itself often leaves the shape open, and never says whether boxes are decoded.
        """
        if len(self._outputs) == 1:
            height, width = self._size
            output = self._run(np.full((height, width, 3), 0.5, np.float32))[0]
            cells = sum((height // stride) * (width // stride) for stride in STRIDES)
            if output.ndim == 3 and output.shape[0] == 1 and output.shape[2] == 85:
                if output.shape[1] == cells:
                    # Decoded centres go from one side to the other, whatever the network saw.
                    self._decoded = bool(np.ptp(output[0, :, 0]) > width / 2)
                    return 'yolox'
                if output.shape[1] == 3 * cells:
                    return 'yolov5'
            elif output.ndim == 3 and output.shape[0] == 1 and 84 in output.shape[1:]:
                return 'yolov8'
        found = ', '.join(f'{o.name} {o.shape}' for o in self._session.get_outputs())
        raise WeightsError(
            f"'{self.path}' gives {found}: expected dets and labels, or boxes, labels and scores, "
            'or one output (1, N, 85), (1, 84, N) or (1, N, 84)'
        )

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Outputs of normalised pixels (H, W, 3)."""
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1), self._type)
        tensor = tensor[None] if self._rank == 4 else tensor
        try:
            return self._session.run(self._outputs, {self._input: tensor})
        except Exception as error:  # onnxruntime's have no base of their own
            raise WeightsError(
                f"'{self.path}' does not run on {tensor.shape} ({first_line(error)})"
            ) from error

    def _persons(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4), in pixels of the input, and scores (n,) of persons."""
        if self.form == 'torchvision':
            boxes, labels, scores = outputs
            person = labels.reshape(-1) == self.person_class
            return boxes.reshape(-1, 4)[person], scores.reshape(-1)[person]
        if self.form == 'mmdeploy':
            dets, labels = outputs
            dets = dets.reshape(-1, 5)[labels.reshape(-1) == self.person_class]
            return dets[:, :4], dets[:, 4]
        rows = outputs[0][0].astype(np.float32)
        if self.form == 'yolov8' and rows.shape[0] == 84:
            rows = rows.T
        classes = rows[:, 4:] if self.form == 'yolov8' else rows[:, 5:]
        scores = classes.max(1)
        if self.form != 'yolov8':
            scores = scores * rows[:, 4]
        if not self._decoded:
            rows = _decode(rows, self._size)
        kept = (classes.argmax(1) == self.person_class) & (scores >= self.threshold)
        centre, half, scores = rows[kept, :2], rows[kept, 2:4] / 2, scores[kept]
        boxes = np.concatenate([centre - half, centre + half], 1)
        best = nms(boxes, scores, self.overlap)
        return boxes[best], scores[best]


def _session(path: str, providers: Sequence | None):
    """An onnxruntime session; see `OnnxDetector` for what it raises."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('an ONNX detector needs onnxruntime: pip install onnxruntime') from error
    if not os.path.isfile(path):
        raise WeightsError(f"ONNX file '{path}' does not exist")
    providers = ['CPUExecutionProvider'] if providers is None else list(providers)
    known = onnxruntime.get_available_providers()
    for provider in providers:
        name = provider if isinstance(provider, str) else provider[0]
        if name not in known:
            raise ConfigError(f'onnxruntime has no provider {name!r} here, only {", ".join(known)}')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: errors are raised, too
    try:
        # Falling back to another provider is the caller's to ask for, and prints lines.
        return onnxruntime.InferenceSession(
            path, options, providers=providers, enable_fallback=False
        )
    except Exception as error:  # onnxruntime's have no base of their own
        raise WeightsError(
            f"'{path}' ({os.path.getsize(path):,} bytes) is damaged or no ONNX network "
            f'({first_line(error)})'
        ) from error


def _decode(rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """YOLOX's rows (n, 85) with centre and size in pixels of an input of (height, width) `size`.

    The centre counts from the cell's corner in cells, the size is the logarithm of cells.
    """
    corners, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), stride))
    corner, stride = np.concatenate(corners), np.concatenate(strides)
    with np.errstate(over='ignore'):  # the size of a row that is no object may be anything
        sides = np.exp(rows[:, 2:4]) * stride
    return np.concatenate([(rows[:, :2] + corner) * stride, sides, rows[:, 4:]], 1)
