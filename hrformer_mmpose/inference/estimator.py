"""Poses from images and boxes, in batches that span images.

Images arrive one at a time. The network runs when a batch of crops is complete. An image leaves, in
order of arrival, when its last crop is predicted. The batch size, and the size of images that are
kept, bound the memory in use.
"""

import contextlib
import operator
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, device_errors, smaller_batch
from ..imaging import crops
from ..imaging.poses import Pose
from . import networks
from .crop_reader import CropJob, CropReader, ImagePoses
from .networks import Network
from .pairing import Boxes, Image, is_single_image

MAX_BATCH_SIZE = 4096  # persons
MAX_WAITING_BYTES = 2**28  # of images that wait for a batch to fill


class Estimator:
    """Pose estimation with any network.

    Args:
        network: maps crops to keypoints.
        batch_size: persons in a batch, of one image or several.
        box_threshold: boxes with a lower detection score are dropped.
        on_error: 'raise' a `DataError` for an unusable image or box, or 'skip' it and record it
            in `ImagePoses.problems`.

    Raises:
        ConfigError: invalid argument.
        DeviceError: later, if a batch does not fit into memory or the device cannot be used.
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
        if not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise ConfigError(f'batch_size={batch_size}: give 1 to {MAX_BATCH_SIZE}')
        if on_error not in ('raise', 'skip'):
            raise ConfigError(f"on_error={on_error!r} is not 'raise' or 'skip'")
        self.network = network
        self.batch_size = batch_size
        self.box_threshold = box_threshold
        self.on_error = on_error

    def __call__(
        self, images: Image | Iterable[Image], boxes: Boxes
    ) -> list[Pose] | list[list[Pose]]:
        """Estimate the poses on one image or on several.

        Args:
            images: a path, an array ((H, W, 3) BGR; grey, BGRA and 16-bit arrays are converted), or
                an iterable of these.
            boxes: boxes of the persons. For one image rows of x0, y0, x1, y1[, score] in pixels,
                for several a list of such arrays. Or a mapping from file names to rows, a detector
                that is called with each image, or 'whole-image': each image shows one person from
                edge to edge.

        Returns:
            Poses in the order of the boxes; for several images a list of such lists.

        Raises:
            DataError: an unusable image or box (unless `on_error` is 'skip').
        """
        if is_single_image(images):
            rows = boxes if isinstance(boxes, str | Mapping) or callable(boxes) else [boxes]
            return next(self.stream([images], rows)).poses
        return [result.poses for result in self.stream(images, boxes)]

    def stream(
        self,
        images: Iterable[Image],
        boxes: Boxes,
        keep_images: bool = False,
        live: bool = False,
    ) -> Iterator[ImagePoses]:
        """Estimate the poses on many images with bounded memory.

        The caller may overwrite an array as soon as the next image is requested.

        Args:
            images: see `__call__`; may be an endless iterator.
            boxes: see `__call__`; may be an endless iterator.
            keep_images: return each image with its poses.
            live: do not wait for full batches: the poses of an array are returned before the next
                array is requested, as for a camera.

        Yields:
            Poses of each image, in order.

        Raises:
            DataError: see `__call__`; also if the numbers of images and boxes differ. Like all
                errors of `images` and `boxes`, it is raised after the images before it.
        """
        if is_single_image(images):
            raise ConfigError(f'stream takes several images, not one {type(images).__name__}')
        pending: deque[CropJob] = deque()
        waiting: list[tuple[CropJob, int]] = []
        failure = None
        reader = CropReader(self.network, self.box_threshold, self.on_error)
        with contextlib.closing(reader.read(images, boxes, keep_images)) as jobs:
            for job in jobs:
                if isinstance(job, Exception):
                    failure = job
                    break
                pending.append(job)
                waiting += [(job, index) for index in range(len(job.crops))]
                while len(waiting) >= self.batch_size:
                    waiting = self._predict(waiting)
                # Images without persons must not pile up behind one that waits for its batch.
                if waiting and (live or self._is_full(pending)):
                    waiting = self._predict(waiting)
                while pending and len(pending[0].predictions) == len(pending[0].crops):
                    yield self._finish(pending.popleft())
        if waiting:
            self._predict(waiting)
        while pending:
            yield self._finish(pending.popleft())
        if failure is not None:
            raise failure

    def _is_full(self, pending: deque[CropJob]) -> bool:
        """Return whether too many images, or too large ones, wait for a batch to fill."""
        kept = (job.result.image for job in pending)
        size = sum(image.nbytes for image in kept if image is not None)
        return len(pending) > self.batch_size or size > MAX_WAITING_BYTES

    def _predict(self, waiting: list[tuple[CropJob, int]]) -> list[tuple[CropJob, int]]:
        """Run the network on one batch and return the crops after it."""
        batch, rest = waiting[: self.batch_size], waiting[self.batch_size :]
        with device_errors(lambda: smaller_batch('batch_size', len(batch), 'persons')):
            keypoints, scores = self.network.predict(
                np.stack([job.crops[index] for job, index in batch])
            )
        for (job, index), *prediction in zip(batch, keypoints, scores, strict=True):
            job.crops[index] = None  # free the memory
            job.predictions.append(tuple(prediction))
        return rest

    def _finish(self, job: CropJob) -> ImagePoses:
        """Convert predictions to poses in pixels of the image."""
        result = job.result
        if not job.predictions:
            return result
        inputs, scores = (np.stack(part) for part in zip(*job.predictions, strict=True))
        keypoints = crops.to_image(inputs, job.centers, job.scales, self.network.input_size)
        finite = np.isfinite(keypoints).all((1, 2)) & np.isfinite(scores).all(1)
        if not finite.all():
            problem = (
                f'the network gives NaN or infinite values for {(~finite).sum()} of {len(finite)} '
                f'persons on {result.name}'
            )
            result.add_problem(DataError(problem), self.on_error)
        result.poses = [
            Pose(
                keypoints[i].astype(np.float32),
                scores[i].astype(np.float32),
                job.boxes[i, :4],
                float(job.boxes[i, 4]),
                self.network.skeleton,
            )
            for i in np.flatnonzero(finite)
        ]
        return result


class PoseRuntime(Estimator):
    """Pose estimation with an exported network, without PyTorch.

    Args:
        path: output of `hrformer export`, `.onnx` or OpenVINO's `.xml`.
        backend: 'onnxruntime' or 'openvino'; None selects the first one that is installed and
            reads the file.
        threads: CPU threads; None leaves the number to the backend.
        device: see `networks.open_network`.

    Further arguments: see `Estimator`.

    Raises:
        WeightsError: the file is missing, broken, or not an export of this package.
        ConfigError: the backend lacks the device, or the device is not in this machine.
        DeviceError: the device's libraries do not load.
        ImportError: the backend or its provider for the device is not installed; names the package
            to install.
    """

    def __init__(
        self,
        path: str | Path,
        backend: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        box_threshold: float = 0.0,
        on_error: str = 'raise',
        device: str | None = None,
    ):
        network = networks.open_network(path, backend, threads, device)
        super().__init__(network, batch_size, box_threshold, on_error)
