"""What `hrformer predict` is given, brought into one order: images, videos, a camera."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, UserError

IMAGES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'}
VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'}
CAMERA = 'camera'
# Containers tell the number of frames only roughly; what is missing beyond this was cut off.
MISSING_FRAMES = 0.02


@dataclass(frozen=True)
class Inputs:
    """Paths of images and videos, in a fixed order without repetition; or a camera's number."""

    images: tuple[str, ...]
    videos: tuple[str, ...]
    camera: int | None = None


def collect(arguments: list[str]) -> Inputs:
    """Images, folders (searched with all that is in them), globs, videos, or 'camera[:NUMBER]'.

    Raises:
        UserError: an argument that names nothing.
    """
    images: list[str] = []
    videos: list[str] = []
    for argument in arguments:
        name, _, number = argument.partition(':')
        if name == CAMERA:
            if len(arguments) > 1 or not (number or '0').isdigit():
                raise UserError(
                    f"'{argument}': a camera is given alone, as camera or camera:NUMBER"
                )
            return Inputs((), (), int(number or 0))
        found = _files(argument)
        images += [path for path in found if Path(path).suffix.lower() in IMAGES]
        videos += [path for path in found if Path(path).suffix.lower() in VIDEOS]
    return Inputs(tuple(dict.fromkeys(images)), tuple(dict.fromkeys(videos)))


def _files(argument: str) -> list[str]:
    if os.path.isdir(argument):
        found = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(argument)
            for name in names
            if not name.startswith('.')
        ]
        wanted = [path for path in found if Path(path).suffix.lower() in IMAGES | VIDEOS]
        if not wanted:
            raise UserError(f"folder '{argument}' holds no images and no videos")
        return sorted(wanted)
    if os.path.isfile(argument):
        if Path(argument).suffix.lower() not in IMAGES | VIDEOS:
            raise UserError(
                f"'{argument}' has the name of neither an image nor a video "
                f'({", ".join(sorted(IMAGES | VIDEOS))})'
            )
        return [argument]
    found = sorted(glob.glob(argument, recursive=True))
    if not found:
        raise UserError(f"'{argument}' does not exist")
    return [path for path in found if os.path.isfile(path)]


class Video:
    """Frames of a video file or a camera.

    Args:
        source: a path, or a camera's number.

    Attributes:
        fps: frames a second. frames: their number as the file tells it, None where it does not.
        read: how many were read. size: (w, h).

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, source: str | int):
        self._capture = cv2.VideoCapture(source)
        self.name = f'camera {source}' if isinstance(source, int) else source
        if not self._capture.isOpened():
            hint = 'no such camera' if isinstance(source, int) else 'broken, cut short, or no video'
            raise DataError(f"'{self.name}' cannot be opened: {hint}")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = count if count > 0 else None
        self.size = tuple(
            int(self._capture.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        self.read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) BGR uint8, an array of its own for each frame."""
        while True:
            good, frame = self._capture.read()
            if not good:
                self._capture.release()
                return
            self.read += 1
            yield frame

    def cut_short(self) -> str | None:
        """After reading: one line if frames are missing at the end."""
        if self.frames is None or self.read >= self.frames * (1 - MISSING_FRAMES) - 1:
            return None
        return f"'{self.name}' is cut short: {self.read} of {self.frames} frames could be read"
