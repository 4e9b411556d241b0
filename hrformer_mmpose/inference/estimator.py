"""From images and boxes to poses, in batches that reach across images.

Images flow in one at a time, as paths that a thread reads ahead, or as arrays. Each is cut into the
crops of its boxes; as soon as a batch of crops is there the network sees it; an image leaves, in
the order of arrival, when its last crop is done. What is held at any time is bounded by the batch
and, where images are to be kept, by their size.
"""

import contextlib
import itertools
import operator
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import ConfigError, DataError
from ..imaging import crops, images
from ..imaging.poses import Pose
from ..imaging.skeleton import Skeleton
from .pairing import (
    Boxes,
    Image,
    is_single,
    name_of,
    own_boxes,
    paired,
)

READ_AHEAD = 4  # images
MOST_PERSONS = 4096  # in a batch
KEPT = 2**28  # bytes of images that wait for a batch to fill


class Network(Protocol):
    """What turns crops into keypoints.

    Attributes:
        input_size: (w, h). padding: crop over box. udp: how crops are measured. skeleton: what the
            keypoints are.
    """

    input_size: tuple[int, int]
    padding: float
    udp: bool
    skeleton: Skeleton

    @abstractmethod
    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crops (N, h, w, 3) BGR uint8 -> keypoints (N, K, 2) of the input, scores (N, K)."""


@dataclass(eq=False)
class ImagePoses:
    """What was found on one image.

    Attributes:
        name: path; for an array 'image' and its number, from 0. poses: in the order of the boxes.
        shape: (H, W). image: (H, W, 3) BGR where it was to be kept. problems: one line
            for each box, or for the image, that could not be used.
    """

    name: str
    poses: list[Pose] = field(default_factory=list)
    shape: tuple[int, int] | None = None
    image: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether the image could not be read."""
        return self.shape is None


@dataclass(eq=False)
class _Job:
    """An image on its way."""

    result: ImagePoses
    boxes: np.ndarray
    crops: list[np.ndarray]
    centers: np.ndarray
    scales: np.ndarray
    found: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


class Estimator:
    """Poses of images by a network.

    Args:
        network: sees the crops.
        batch_size: persons at a time, of one image or of several.
        box_threshold: boxes whose detection score is lower are left out.
        on_error: 'raise' a `DataError` for an image or a box that cannot be used, or 'skip' it and
            note it in `ImagePoses.problems`.

    Raises:
        ConfigError: a value that cannot be used.
    """

    def __init__(
        self,
        network: Network,
        batch_size: int = 32,
        box_threshold: float = 0.0,
        on_error: str = 'raise',
    ):
        try:
            batch_size = operator.index(batch_size)
        except TypeError as error:
            raise ConfigError(f'batch_size={batch_size!r} is no whole number') from error
        if not 1 <= batch_size <= MOST_PERSONS:
            raise ConfigError(f'batch_size={batch_size}: give 1 to {MOST_PERSONS}')
        if on_error not in ('raise', 'skip'):
            raise ConfigError(f"on_error={on_error!r} is not 'raise' or 'skip'")
        self.network = network
        self.batch_size = batch_size
        self.box_threshold = box_threshold
        self.on_error = on_error

    def __call__(
        self, images: Image | Iterable[Image], boxes: Boxes
    ) -> list[Pose] | list[list[Pose]]:
        """Poses of one image, or of several.

        Args:
            images: a path, an array ((H, W, 3) in OpenCV's order, blue first; grey, BGRA and 16-bit
                arrays are converted), or an iterable of these.
            boxes: where the persons are: for one image rows of x0, y0, x1, y1[, score] in pixels,
                for several a list of such arrays; or a mapping from file names to them; or a
                detector, called with each image; or 'whole-image', which takes it that each image
                shows one person from edge to edge.

        Returns:
            A list of poses in the order of the boxes, empty where there are none; for several
            images a list of these.

        Raises:
            DataError: an image or a box that cannot be used (unless `on_error` is 'skip').
        """
        if is_single(images):
            rows = boxes if isinstance(boxes, str | Mapping) or callable(boxes) else [boxes]
            return next(self.stream([images], rows)).poses
        return [found.poses for found in self.stream(images, boxes)]

    def stream(
        self,
        images: Iterable[Image],
        boxes: Boxes,
        keep_images: bool = False,
        live: bool = False,
    ) -> Iterator[ImagePoses]:
        """Poses of many images, one after the other, without holding them all.

        The caller may use the memory of an array again as soon as the next image is asked of it.

        Args:
            images, boxes: see `__call__`; both may be endless iterators.
            keep_images: hand the image on, too.
            live: do not wait for a batch to fill: an array's poses are there before the next array
                is asked for, as a camera wants it.

        Yields:
            The images in their order.

        Raises:
            DataError: see `__call__`; also where there are more images than boxes or fewer. As any
                error of `images` and `boxes` it comes after the images before it.
        """
        if is_single(images):
            raise ConfigError(f'stream takes several images, not one {type(images).__name__}')
        pending: deque[_Job] = deque()
        waiting: list[tuple[_Job, int]] = []
        failure = None
        with contextlib.closing(self._jobs(images, boxes, keep_images)) as jobs:
            while True:
                try:
                    job = next(jobs)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                pending.append(job)
                waiting += [(job, index) for index in range(len(job.crops))]
                while len(waiting) >= self.batch_size:
                    waiting = self._predict(waiting)
                # Images without persons must not pile up behind one that waits for its batch.
                if waiting and (live or len(pending) > self.batch_size or _kept(pending) > KEPT):
                    waiting = self._predict(waiting)
                while pending and len(pending[0].found) == len(pending[0].crops):
                    yield self._finish(pending.popleft())
        if waiting:
            self._predict(waiting)
        while pending:
            yield self._finish(pending.popleft())
        if failure is not None:
            raise failure

    def _jobs(self, sources: Iterable[Image], boxes: Boxes, keep: bool) -> Iterator[_Job]:
        """Images cut into crops, by a thread: files ahead, arrays before the next is asked for."""
        queue: deque[Future] = deque()
        pairs = paired(sources, boxes)
        with ThreadPoolExecutor(1, 'hrformer-reader') as reader:
            try:
                for number in itertools.count():
                    try:
                        source, rows = next(pairs)
                    except StopIteration:
                        break
                    except Exception as error:  # its turn comes after the images before it
                        queue.append(Future())
                        queue[-1].set_exception(error)
                        break
                    name = name_of(source, number)
                    rows = own_boxes(rows, name)
                    queue.append(reader.submit(self._prepare, source, rows, name, keep))
                    # Not as soon as the first is done: files are to be there when the network is.
                    ahead = READ_AHEAD
                    if isinstance(source, np.ndarray):
                        wait(queue)
                        ahead = 0
                    while len(queue) > ahead:
                        yield queue.popleft().result()
                while queue:
                    yield queue.popleft().result()
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, source: Image, rows, name: str, keep: bool) -> _Job:
        result = ImagePoses(name)
        empty = np.zeros((0, 2), np.float32)
        try:
            if isinstance(source, str | os.PathLike):
                image = images.read_image(source)
            else:
                image = images.as_bgr(source, name)
                if keep and np.may_share_memory(image, source):
                    image = image.copy()
        except DataError as error:
            if self.on_error == 'raise':
                raise
            result.problems.append(str(error))
            return _Job(result, np.zeros((0, 5), np.float32), [], empty, empty)
        result.shape = image.shape[:2]
        result.image = image if keep else None
        table = self._boxes(rows, image, result)
        size, udp = self.network.input_size, self.network.udp
        centers, scales = crops.centers_and_scales(table, size, self.network.padding)
        cut = [
            crops.crop(image, crops.crop_matrix(center, scale, size, udp), size)
            for center, scale in zip(centers, scales, strict=True)
        ]
        return _Job(result, table, cut, centers, scales)

    def _boxes(self, rows, image: np.ndarray, result: ImagePoses) -> np.ndarray:
        """The boxes of an image that hold persons, (n, 5)."""
        H, W = image.shape[:2]
        try:
            if isinstance(rows, str):
                rows = [[0, 0, W, H]]
            elif callable(rows):
                rows = rows(image)
            if isinstance(rows, DataError):
                raise rows
            table = crops.as_boxes(rows, result.name)
            wanted = ~(table[:, 4] < self.box_threshold)
            bad = [
                (row, why) for row, why in crops.invalid_boxes(table, image.shape) if wanted[row]
            ]
            if bad and self.on_error == 'raise':
                row, why = bad[0]
                raise DataError(f'box {row} of {result.name} {why}')
        except DataError as error:
            if self.on_error == 'raise':
                raise
            result.problems.append(str(error))
            return np.zeros((0, 5), np.float32)
        result.problems += [f'box {row} of {result.name} {why}' for row, why in bad]
        wanted[[row for row, _ in bad]] = False
        return table[wanted]

    def _predict(self, waiting: list[tuple[_Job, int]]) -> list[tuple[_Job, int]]:
        """Run one batch; returns what is left."""
        batch, rest = waiting[: self.batch_size], waiting[self.batch_size :]
        keypoints, scores = self.network.predict(
            np.stack([job.crops[index] for job, index in batch])
        )
        for (job, index), *found in zip(batch, keypoints, scores, strict=True):
            job.crops[index] = None  # seen
            job.found.append(tuple(found))
        return rest

    def _finish(self, job: _Job) -> ImagePoses:
        if job.found:
            inputs, scores = (np.stack(part) for part in zip(*job.found, strict=True))
            keypoints = crops.to_image(inputs, job.centers, job.scales, self.network.input_size)
            finite = np.isfinite(keypoints).all((1, 2)) & np.isfinite(scores).all(1)
            self._check_finite(finite, job.result)
            job.result.poses = [
                Pose(
                    keypoints[i].astype(np.float32),
                    scores[i].astype(np.float32),
                    job.boxes[i, :4],
                    float(job.boxes[i, 4]),
                    self.network.skeleton,
                )
                for i in np.flatnonzero(finite)
            ]
        return job.result

    def _check_finite(self, finite: np.ndarray, result: ImagePoses) -> None:
        if finite.all():
            return
        line = (
            f'the network gives NaN or infinite values for {(~finite).sum()} of {len(finite)} '
            f'persons on {result.name}'
        )
        if self.on_error == 'raise':
            raise DataError(line)
        result.problems.append(line)


class PoseRuntime(Estimator):
    """Poses by an exported network, without PyTorch.

    Args:
        path: what `hrformer export` wrote, `.onnx` or OpenVINO's `.xml`.
        backend: 'onnxruntime' or 'openvino'; by default the first of them that is installed and
            reads the file.
        threads: of the CPU; by default what the backend takes.
        batch_size, box_threshold, on_error: see `Estimator`.

    Raises:
        WeightsError: the file is missing, broken, or not one of ours.
        ImportError: the backend is not installed; says how to install it.
    """

    def __init__(
        self,
        path: str | Path,
        backend: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        box_threshold: float = 0.0,
        on_error: str = 'raise',
    ):
        from .networks import open_network

        network = open_network(path, backend, threads)
        super().__init__(network, batch_size, box_threshold, on_error)


def _kept(jobs: Iterable[_Job]) -> int:
    """Bytes of their images."""
    return sum(job.result.image.nbytes for job in jobs if job.result.image is not None)
