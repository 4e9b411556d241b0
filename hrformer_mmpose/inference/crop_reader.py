"""Reading images ahead and cutting out the crops of their persons.

Shapes: n boxes, (w, h) of the network's input, (H, W) of an image, K keypoints.
"""

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError
from ..imaging import crops, images
from ..imaging.poses import Pose
from .networks import Network
from .pairing import Boxes, Image, copy_boxes, image_name, pair_boxes

READ_AHEAD = 4  # images


@dataclass(eq=False)
class ImagePoses:
    """Poses on one image.

    Attributes:
        name: path; 'image' and its index for an array.
        poses: in the order of the boxes.
        shape: (H, W); None if the image could not be read.
        image: (H, W, 3) BGR uint8 if images are kept.
        problems: one line for each unusable box or image.
    """

    name: str
    poses: list[Pose] = field(default_factory=list)
    shape: tuple[int, int] | None = None
    image: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Return whether the image could not be read."""
        return self.shape is None

    def add_problem(self, error: DataError, on_error: str) -> None:
        """Raise an error if `on_error` is 'raise', else record it."""
        if on_error == 'raise':
            raise error
        self.problems.append(str(error))


@dataclass(eq=False)
class CropJob:
    """Crops of one image and the network's predictions for them.

    Attributes:
        result: poses to be filled in.
        boxes: (n, 5) x0, y0, x1, y1, score in pixels of the image.
        crops: n crops (h, w, 3) BGR uint8; None once predicted.
        centers: (n, 2) of the crops in pixels of the image.
        scales: (n, 2) sizes of the crops in pixels of the image.
        predictions: keypoints (K, 2) and scores (K,) of the first crops.
    """

    result: ImagePoses
    boxes: np.ndarray
    crops: list[np.ndarray | None]
    centers: np.ndarray
    scales: np.ndarray
    predictions: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


class CropReader:
    """Reader of images that cuts out crops in a thread.

    Args:
        network: defines the size and geometry of the crops.
        box_threshold: boxes with a lower detection score are dropped.
        on_error: 'raise' or 'skip', see `Estimator`.
    """

    def __init__(self, network: Network, box_threshold: float, on_error: str):
        self.network, self.box_threshold, self.on_error = network, box_threshold, on_error

    def read(
        self, sources: Iterable[Image], boxes: Boxes, keep_images: bool
    ) -> Iterator[CropJob | Exception]:
        """Read images and cut out crops: files ahead, an array before the next one is requested.

        Yields:
            A job for each image, in order. If reading fails, the exception is the last item.
        """
        try:
            with ThreadPoolExecutor(1, 'hrformer-reader') as executor:
                try:
                    yield from self._jobs(executor, pair_boxes(sources, boxes), keep_images)
                finally:
                    executor.shutdown(wait=False, cancel_futures=True)
        except Exception as error:
            yield error

    def _jobs(self, executor, pairs: Iterator, keep_image: bool) -> Iterator[CropJob]:
        queue: deque[Future] = deque()
        for number in itertools.count():
            try:
                source, rows = next(pairs)
            except StopIteration:
                break
            except Exception as error:  # raised after the images before it
                queue.append(Future())
                queue[-1].set_exception(error)
                break
            name = image_name(source, number)
            rows = copy_boxes(rows, name)
            queue.append(executor.submit(self._prepare, source, rows, name, keep_image))
            # Keep files in the queue: the next crops must be ready when the network is.
            ahead = READ_AHEAD
            if isinstance(source, np.ndarray):
                wait(queue)  # the caller may overwrite the array
                ahead = 0
            while len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()

    def _prepare(self, source: Image, rows, name: str, keep_image: bool) -> CropJob:
        """Read an image and cut out its crops."""
        result = ImagePoses(name)
        try:
            if isinstance(source, str | os.PathLike):
                image = images.read_image(source)
            else:
                image = images.as_bgr(source, name)
                if keep_image and np.may_share_memory(image, source):
                    image = image.copy()
        except DataError as error:
            result.add_problem(error, self.on_error)
            empty = np.zeros((0, 2), np.float32)
            return CropJob(result, np.zeros((0, 5), np.float32), [], empty, empty)
        result.shape = image.shape[:2]
        result.image = image if keep_image else None
        boxes = self._boxes(rows, image, result)
        size, udp = self.network.input_size, self.network.udp
        centers, scales = crops.centers_and_scales(boxes, size, self.network.padding)
        cut = [
            crops.crop(image, crops.crop_matrix(center, scale, size, udp), size)
            for center, scale in zip(centers, scales, strict=True)
        ]
        return CropJob(result, boxes, cut, centers, scales)

    def _boxes(self, rows, image: np.ndarray, result: ImagePoses) -> np.ndarray:
        """Return the usable boxes (n, 5) of an image.

        Args:
            rows: boxes, a detector, 'whole-image', or an error to raise.
            image: (H, W, 3).
            result: receives the problems.
        """
        H, W = image.shape[:2]
        try:
            if isinstance(rows, str):
                rows = [[0, 0, W, H]]
            elif callable(rows):
                rows = rows(image)
            if isinstance(rows, DataError):
                raise rows
            boxes = crops.as_boxes(rows, result.name)
        except DataError as error:
            result.add_problem(error, self.on_error)
            return np.zeros((0, 5), np.float32)
        usable = ~(boxes[:, 4] < self.box_threshold)
        for row, reason in crops.invalid_boxes(boxes, image.shape):
            if usable[row]:
                problem = DataError(f'box {row} of {result.name} {reason}')
                result.add_problem(problem, self.on_error)
                usable[row] = False
        return boxes[usable]
