"""Where the person boxes come from: a file of them, or a detector run on the image.

A detector is a callable: an image, (H, W, 3) BGR uint8, in; rows (n, 5) float32 out, each x0, y0,
x1, y1 in pixels of the image (its left edge is 0, its right edge W) and a score, highest score
first; n may be 0. `CocoDetections` hands out the same rows by an image's file name instead.

Nothing here downloads anything.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from ..errors import ConfigError, DataError, WeightsError

Detector = Callable[[np.ndarray], np.ndarray]

PERSON = 1  # COCO's category
GREY = 114  # of what an image is padded with, as YOLO's and MMDetection's test pipelines do
HOG_WINDOW = (64, 128)  # width, height in pixels that OpenCV's people detector looks at
# Where in the window the person is, x0, y0, x1, y1 in shares of it (OpenCV's peopledetect.cpp).
HOG_PERSON = np.array([0.1, 0.07, 0.9, 0.87])
DETECTORS = (
    "'hog'",
    "'onnx:FILE'",
    "'torchvision:FILE'",
    "a COCO detection or annotation file (.json), or 'whole-image'",
)


class UnknownImageError(DataError, KeyError):
    """A file of boxes does not know an image."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotes


class CocoDetections(Mapping[str, np.ndarray]):
    """Person boxes by an image's file name, from a file in one of COCO's formats.

    Boxes are those that MMPose's data set loads from the same file, in float32, with the highest
    score first (equal scores in the file's order). A detection file is a list of {image_id,
    category_id, bbox (x, y, width, height), score}, of which category 1 counts; its boxes are not
    clipped. An annotation file is a dictionary with images and annotations; its boxes are those
    of the persons with labelled keypoints that are no crowd, clipped to 0 .. size - 1, score 1. A
    person without keypoints counts where the file says nothing about any (instances_val2017.json).

    A look-up takes a file name or path. With an annotation file, its images are known, by their
    base names; where several folders have one of that name, the path has to end in the file name
    that the annotations give. Without, an image's id is the number its name ends in, by which COCO
    names its files (COCO_val2014_000000000139.jpg and 000000000139.jpg are 139): every name that
    ends in a digit is known, and iteration gives 000000000139.jpg for the images with a box. A
    known image without boxes has an array of shape (0, 5).

    Args:
        path: of the file. annotations: for a detection file, the annotation file of its images.
        threshold: boxes with a lower score are left out.

    Raises:
        DataError: a file is missing, broken or of another kind, holds no person, or has a box or
            score that is no number, a box without area, or one of an image it does not list.
        ConfigError: `annotations` beside an annotation file.
        UnknownImageError: (a look-up; a KeyError) the image is not known.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        annotations: str | os.PathLike | None = None,
        threshold: float = 0.0,
    ):
        self.path, self.threshold = os.fspath(path), threshold
        self._names: dict[str, list[tuple[str, int]]] | None = None
        if _starts_with(self.path) == '{':
            if annotations is not None:
                raise ConfigError(
                    f"'{self.path}' is an annotation file, which names its images itself: leave "
                    f"out annotations='{os.fspath(annotations)}'"
                )
            ids, boxes = self._annotated()
        else:
            ids, boxes = self._detected(annotations)
        if not len(boxes):
            raise DataError(f"'{self.path}' holds no box of a person (category_id {PERSON})")
        kept = ~(boxes[:, 4] < threshold)
        self._boxes = _by_image(ids[kept], boxes[kept])

    def __getitem__(self, name: str | os.PathLike) -> np.ndarray:
        """(n, 5) boxes of the image with that file name; a copy."""
        found = self._boxes.get(self.image_id(name))
        return np.zeros((0, 5), np.float32) if found is None else found.copy()

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            return (f'{image:012d}.jpg' for image in self._boxes)
        return (file for known in self._names.values() for file, _ in known)

    def __len__(self) -> int:
        return len(self._boxes) if self._names is None else sum(map(len, self._names.values()))

    def __repr__(self) -> str:
        count = sum(map(len, self._boxes.values()))
        return f'{type(self).__name__}({self.path!r}, {count} boxes)'

    def image_id(self, name: str | os.PathLike) -> int:
        """COCO's id of the image with that file name; UnknownImageError if it is not known."""
        name = os.fspath(name)
        if self._names is None:
            digits = re.search(r'[0-9]+$', os.path.splitext(os.path.basename(name))[0])
            if digits is None:
                raise UnknownImageError(
                    f"image '{name}' has no id at the end of its name, by which to find its boxes "
                    f"in '{self.path}': give the annotation file that lists the images"
                )
            return int(digits[0])
        known = self._names.get(os.path.basename(name), [])
        if len(known) > 1:
            whole = '/' + os.path.normpath(name)
            known = [(file, image) for file, image in known if whole.endswith('/' + file)]
            known = sorted(known, key=lambda item: len(item[0]))[-1:]
        if not known:
            raise UnknownImageError(f"image '{name}' is not one of those of '{self._list}'")
        return known[0][1]

    def _annotated(self) -> tuple[np.ndarray, np.ndarray]:
        """Image ids (n,) and boxes (n, 5) of an annotation file."""
        from ..datasets import persons

        a = self._read_images(self.path)
        if not a.annotated:
            raise DataError(f"'{self.path}' lists images but no annotations")
        person = (a.category_id == PERSON) & ~a.iscrowd & (a.num_keypoints != 0)
        unlisted = person & (a.rows_of(a.image) < 0)
        broken = person & ~np.isfinite(a.bbox).all(1)

        def name(row: int) -> str:
            return f'annotation {a.id[row]}'

        self._refuse(unlisted, name, 'is of an image that the file does not list')
        self._refuse(broken, name, 'has no box of four numbers')
        # Where nothing is said about keypoints, stand-ins keep MMPose's rules from dropping it.
        silent = (a.length < 0)[:, None, None]
        filled = replace(a, keypoints=np.where(silent, 1.0, a.keypoints))
        found = persons.annotated(filled, '', person)
        return found.image, np.column_stack([found.bbox, found.score])

    def _detected(self, annotations: str | os.PathLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Image ids (n,) and boxes (n, 5) of a detection file."""
        from ..datasets import annotations as files

        d = files.read_detections(self.path)
        person = d.category_id == PERSON
        with np.errstate(over='ignore'):  # 1e300, which is told below
            boxes = np.column_stack([d.bbox, d.score]).astype(np.float32)
            boxes[:, 2:4] += boxes[:, :2]
        broken = person & ~np.isfinite(boxes).all(1)
        empty = person & (d.bbox[:, 2:].min(1) <= 0)

        def name(row: int) -> str:
            return f'detection {row} (of image {d.image[row]})'

        self._refuse(broken, name, 'has no box of four numbers and a score')
        self._refuse(empty, name, 'has a box without area')
        if annotations is not None:
            a = self._read_images(os.fspath(annotations))
            unlisted = person & (a.rows_of(d.image) < 0)
            self._refuse(unlisted, name, f"is of an image that '{a.path}' does not list")
        return d.image[person], boxes[person]

    def _read_images(self, path: str):
        """The annotations of a file, whose images are then the known ones."""
        from ..datasets import annotations as files

        if _starts_with(path) != '{':
            raise DataError(f"'{path}' is a list: an annotation file is a dictionary with images")
        a = files.read(path)
        if not len(a.image_id):
            raise DataError(f"'{path}' lists no images")
        self._list, self._names = path, {}
        for file, image in zip(a.names(), a.image_id.tolist(), strict=True):
            self._names.setdefault(os.path.basename(file), []).append((file, image))
        return a

    def _refuse(self, bad: np.ndarray, name: Callable[[int], str], what: str) -> None:
        """An error about the first of the rows that are `bad`, if there is one."""
        rows = np.flatnonzero(bad)
        if len(rows):
            more = f' ({len(rows) - 1} more such)' if len(rows) > 1 else ''
            raise DataError(f"{name(rows[0])} in '{self.path}' {what}{more}")


def _starts_with(path: str) -> str:
    """'[' or '{': what a JSON file holds.

    Raises:
        DataError: there is no such file, or it starts otherwise.
    """
    if not os.path.isfile(path):
        raise DataError(f"file of boxes '{path}' does not exist")
    with open(path, encoding='utf-8', errors='replace') as file:
        start = file.read(1024).lstrip()[:1]
    if start not in ('[', '{'):
        state = 'is no JSON' if start else 'is empty'
        raise DataError(
            f"'{path}' {state}: expected COCO's detections (a list) or annotations (a dictionary)"
        )
    return start


def _by_image(ids: np.ndarray, boxes: np.ndarray) -> dict[int, np.ndarray]:
    """Boxes (n, 5) of each image that has one, highest score first."""
    order = np.lexsort([-boxes[:, 4], ids])  # stable: equal scores stay in the file's order
    ids, boxes = ids[order], boxes[order]
    images, starts = np.unique(ids, return_index=True)
    return dict(zip(images.tolist(), np.split(boxes, starts[1:]), strict=False))


class HogDetector:
    """OpenCV's built-in people detector: histograms of gradients and a linear classifier.

    It needs no file, and is worth little: it knows whole upright pedestrians (Dalal and Triggs,
    CVPR 2005; OpenCV's weights). On 118 images of COCO val2017 with 192 persons, at an intersection
    over union of 0.5, it finds 12 % of the persons, and 18 % of its boxes are one; with
    threshold=0.62 it is 8 % and 38 %. Of the 77 persons whose shoulders, hips and ankles are all
    labelled it finds 22. An image takes 0.11 s of one CPU thread (OpenCV 4.11).

    The image is scaled to a longer side of `side` pixels, up or down, and padded where the 64 x 128
    window would not fit, so that the smallest person found is about 100 / `side` of that side high.
    Windows lose their margin as in OpenCV's peopledetect.cpp. The score is 1 / (1 + exp(-d)) of the
    distance d to the classifier's plane: an order, no probability; since windows with d < 0 are
    dropped it is at least 0.5, and a threshold below that leaves nothing out.

    Args:
        threshold: boxes with a lower score are left out. side: pixels. overlap: intersection over
            union above which of two boxes the one with the lower score is dropped.

    Raises:
        ConfigError: `side` is smaller than the window.
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(self, threshold: float = 0.0, side: int = 640, overlap: float = 0.3):
        if side < max(HOG_WINDOW):
            raise ConfigError(f'side={side} of HogDetector is below the {HOG_WINDOW[1]} of HOG')
        self.threshold, self.side, self.overlap = threshold, side, overlap
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rows (n, 5) of an image (H, W, 3)."""
        height, width = _size(image)
        scale = self.side / max(height, width)
        scaled, scales = _resize(image, scale)
        missing = np.maximum(np.array(HOG_WINDOW[::-1]) - scaled.shape[:2], 0).tolist()
        scaled = cv2.copyMakeBorder(scaled, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        windows, distances = self._hog.detectMultiScale(
            scaled, hitThreshold=0, winStride=(8, 8), padding=(8, 8), scale=1.05, groupThreshold=0
        )
        windows = np.array(windows, np.float64).reshape(-1, 4)
        distances = np.array(distances, np.float64).reshape(-1)
        order = np.lexsort(windows.T)  # threads find the windows in any order
        windows, distances = windows[order], distances[order]
        sides = windows[:, [2, 3, 2, 3]]
        boxes = windows[:, [0, 1, 0, 1]] + sides * HOG_PERSON
        kept = nms(boxes, distances, self.overlap)
        scores = 1 / (1 + np.exp(-distances[kept]))
        return _rows(boxes[kept] / np.tile(scales, 2), scores, (height, width), self.threshold)


def nms(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression.

    Args:
        boxes: (n, 4) x0, y0, x1, y1. scores: (n,). overlap: intersection over union above which a
            box is dropped for one that scores higher and is kept.

    Returns:
        Numbers of the kept boxes, highest score first; the earlier first of equal scores.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = np.argsort(-scores, kind='stable')
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[order, :2])
        shared = (np.minimum(boxes[first, 2:], boxes[order, 2:]) - corner).clip(0).prod(1)
        either = areas[first] + areas[order] - shared
        order = order[shared <= overlap * either]
    return np.array(kept, np.int64)


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
        size = _size(image)
        pixels, scales, start = image, np.ones(2), np.zeros(2)
        if self._size is not None:
            pixels, scales, start = _letterbox(image, self._size, FORMS[self.form].centred)
        pixels = pixels[..., ::-1] if self._rgb else pixels
        boxes, scores = self._persons(
            self._run((pixels.astype(np.float32) - self._mean) / self._std)
        )
        boxes = (boxes.astype(np.float64) - np.tile(start, 2)) / np.tile(scales, 2)
        return _rows(boxes, scores, size, self.threshold)

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
                f"'{self.path}' does not run on {tensor.shape} ({_first_line(error)})"
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
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's have no base of their own
        raise WeightsError(
            f"'{path}' ({os.path.getsize(path):,} bytes) is damaged or no ONNX network "
            f'({_first_line(error)})'
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


class TorchvisionDetector:
    """A detector of torchvision with weights from a file.

    Args:
        weights: file of the weights, such as torchvision's own download. model: its name in
            `torchvision.models.detection`, with COCO's 91 classes; person is 1.
        threshold: boxes with a lower score are left out (torchvision itself drops most below 0.05).
        device: PyTorch's name of it.

    Raises:
        ImportError: torchvision is not installed.
        ConfigError: torchvision has no such model, or PyTorch no such device.
        WeightsError: the file is missing or broken, or its weights are another network's.
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(
        self,
        weights: str | os.PathLike,
        model: str = 'fasterrcnn_resnet50_fpn',
        threshold: float = 0.3,
        device: str = 'cpu',
    ):
        try:
            from torchvision.models import detection
        except ImportError as error:
            raise ImportError(
                'a torchvision detector needs torchvision: pip install torchvision'
            ) from error
        from ..checkpoint import load_weights

        self.threshold, self.device = threshold, device
        weights = os.fspath(weights)
        build = None if model.startswith('_') else getattr(detection, model, None)
        if not callable(build) or isinstance(build, type):
            raise ConfigError(
                f'torchvision has no detector {model!r}: give a function of '
                'torchvision.models.detection, such as fasterrcnn_resnet50_fpn'
            )
        if '://' in weights:  # `load_weights` would fetch it
            raise WeightsError(f"'{weights}': download the weights yourself and give the file")
        state = load_weights(weights)
        network = build(weights=None, weights_backbone=None)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:  # several lines, of which the first names no weight
            what = ' '.join(str(error).splitlines()[1:2]).strip()
            raise WeightsError(f"'{weights}' does not fit {model} ({what[:160]})") from error
        try:
            self._network = network.eval().to(device)
        except (RuntimeError, AssertionError) as error:  # CUDA's absence is the latter
            raise ConfigError(f'device {device!r}: {_first_line(error)}') from error

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rows (n, 5) of an image (H, W, 3)."""
        import torch

        size = _size(image)
        rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        with torch.inference_mode():
            pixels = torch.from_numpy(rgb).to(self.device).float() / 255
            found = self._network([pixels])[0]
        boxes, labels, scores = (found[key].cpu().numpy() for key in ('boxes', 'labels', 'scores'))
        person = labels == PERSON
        return _rows(boxes[person], scores[person], size, self.threshold)


def make_detector(
    text: str, annotations: str | os.PathLike | None = None, threshold: float | None = None
) -> Detector | CocoDetections | str:
    """The source of boxes that a command line names.

    Args:
        text: 'hog', 'onnx:FILE', 'torchvision:FILE', a file that ends in .json (`CocoDetections`),
            or 'whole-image'.
        annotations: for a detection file, the annotation file of its images.
        threshold: boxes with a lower score are left out; by default as the class has it.

    Returns:
        A detector, a mapping, or for 'whole-image' that text (it has no threshold).

    Raises:
        ConfigError: another text, or `annotations` without a detection file.
        DataError, WeightsError, ImportError: as the class does.
    """
    options: dict[str, Any] = {} if threshold is None else dict(threshold=threshold)
    if text.lower().endswith('.json'):
        return CocoDetections(text, annotations, **options)
    if annotations is not None:
        raise ConfigError(
            f"annotations='{os.fspath(annotations)}' belong to a detection file (.json), not to "
            f'detector {text!r}'
        )
    if text == 'whole-image':
        return text
    if text == 'hog':
        return HogDetector(**options)
    kind, _, file = text.partition(':')
    if kind == 'onnx' and file:
        return OnnxDetector(file, **options)
    if kind == 'torchvision' and file:
        return TorchvisionDetector(file, **options)
    raise ConfigError(f'there is no detector {text!r}: give {", ".join(DETECTORS)}')


def _size(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an image, once it is one.

    Raises:
        DataError: it is not (H, W, 3) uint8, with pixels.
    """
    shape = getattr(image, 'shape', ())
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
        what = f'{image.dtype} {shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f'a detector takes an image (H, W, 3) of uint8 (BGR), not {what}')
    return shape[:2]


def _resize(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The image with its sides times `scale`, rounded, and by what x and y really changed, (2,)."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image, np.array([size[0] / width, size[1] / height])


def _letterbox(
    image: np.ndarray, size: tuple[int, int], centred: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image fitted into (height, width) `size`; x there is x here times scale plus start.

    Returns:
        Pixels (height, width, 3) uint8, scale of x and y (2,), start of x and y (2,).
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    scaled, scales = _resize(image, scale)
    height, width = scaled.shape[:2]
    left, top = (size[1] - width, size[0] - height) if centred else (0, 0)
    left, top = left // 2, top // 2
    fitted = np.full((*size, 3), GREY, np.uint8)
    fitted[top : top + height, left : left + width] = scaled
    return fitted, scales, np.array([left, top], np.float64)


def _rows(
    boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Rows (n, 5) of boxes (n, 4): cut at the image, highest score first.

    Left out are those below the threshold, outside the image, or not of numbers.
    """
    height, width = size
    boxes = np.asarray(boxes, np.float64).clip(0, [width, height, width, height])
    rows = np.column_stack([boxes, scores]).astype(np.float32)
    kept = np.isfinite(rows).all(1) & (rows[:, 4] >= threshold)
    kept &= (rows[:, 2:4] > rows[:, :2]).all(1)
    rows = rows[kept]
    return rows[np.argsort(-rows[:, 4], kind='stable')]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
