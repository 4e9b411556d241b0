"""Frames of videos and cameras, upright and with their times.

Videos are read by PyAV where it is installed: orientation and mirroring of the file, uneven frame
rates, interlaced and 10-bit files. OpenCV reads cameras, and videos without PyAV; it takes
interlaced frames as they are and knows no mirroring.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..errors import DataError
from .video_files import lacks_end

if TYPE_CHECKING:
    import av

# Share of frames that may be missing: containers state the number of frames only roughly.
MAX_MISSING_FRAMES = 0.02
CUT = 30.0  # mean difference of two successive frames, of 255, from which a new scene begins
_THUMBNAIL = (32, 18)


@dataclass(frozen=True)
class FrameInfo:
    """Time of a frame, and whether it begins a scene.

    Attributes:
        time: in seconds, increasing.
        is_cut: the frame begins another scene.
    """

    time: float
    is_cut: bool = False


def source_name(source: str | int) -> str:
    """Return the name of a video (path) or camera (number) in messages and results."""
    return f'camera {source}' if isinstance(source, int) else source


def open_video(source: str | int) -> 'Video':
    """Open a video file (path) or a camera (number).

    Raises:
        DataError: it cannot be opened, or holds no video.
    """
    if isinstance(source, int):
        return OpenCVVideo(source)
    if not os.path.isfile(source):
        state = 'is no file' if os.path.exists(source) else 'does not exist'
        raise DataError(f"'{source}' {state}")
    try:
        import av  # noqa: F401
    except ImportError:
        return OpenCVVideo(source)
    return AvVideo(source)


class Video:
    """Frames of a video file or a camera.

    Attributes:
        name: for messages.
        fps: frames per second, on average.
        frames: number of frames as stated by the file; None if it states none.
        start: time of the first frame in the file, in seconds; known after it is read.
        read: number of frames read so far.
        infos: of frames that were read; the caller removes them.
    """

    def __init__(self, name: str, fps: float, frames: int | None):
        self.name = name
        self.fps = fps if 0 < fps < 1000 else 25.0
        self.frames = frames or None
        self.start = 0.0
        self.read = 0
        self.infos: deque[FrameInfo] = deque()
        self._thumbnail: np.ndarray | None = None
        self._time = -1.0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield a new array (H, W, 3) BGR uint8 for each frame."""
        raise NotImplementedError

    def truncation(self) -> str | None:
        """Return one line if frames are missing at the end; call it after reading all frames."""
        if self.read == 0:
            return f"'{self.name}' is broken: no frame can be read"
        if lacks_end(self.name):
            return f"'{self.name}' is cut short: {self.read} frames can be read"
        if self.frames is None or self.read >= self.frames * (1 - MAX_MISSING_FRAMES) - 1:
            return None
        return f"'{self.name}' is cut short: {self.read} of {self.frames} frames can be read"

    def _add(self, image: np.ndarray, time: float | None) -> np.ndarray:
        """Record a frame that was read; return it.

        Args:
            image: (H, W, 3) BGR uint8.
            time: as stated by the file; None if it states none.
        """
        expected = 0.0 if self.read == 0 else self._time + 1 / self.fps
        if time is None or time <= self._time:
            time = expected
        thumbnail = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.int16)
        is_cut = self._thumbnail is not None and bool(
            np.abs(thumbnail - self._thumbnail).mean() > CUT
        )
        self.infos.append(FrameInfo(time, is_cut))
        self._thumbnail, self._time = thumbnail, time
        self.read += 1
        return image


class OpenCVVideo(Video):
    """Video or camera read by OpenCV.

    Args:
        source: path of the file, or number of the camera.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, source: str | int):
        is_file = not isinstance(source, int)
        name = source_name(source)
        self._is_camera, self._has_ended = not is_file, False
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            hint = 'broken, cut short, or no video' if is_file else 'there is none, or it is in use'
            raise DataError(f"'{name}' cannot be opened: {hint}")
        if is_file:  # apply a phone's orientation: OpenCV's default differs between versions
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(name, fps, int(count) if count > 0 else None)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield a new array (H, W, 3) BGR uint8 for each frame."""
        try:
            while True:
                success, frame = self._capture.read()
                if not success:
                    self._has_ended = True
                    return
                milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
                yield self._add(frame, milliseconds / 1000 if milliseconds > 0 else None)
        finally:
            self._capture.release()

    def truncation(self) -> str | None:
        """Return one line if a camera stopped, or frames are missing at the end of a file."""
        if self._is_camera and self._has_ended:
            return (
                f"'{self.name}' gave no more frames after {self.read}: it was unplugged, or taken "
                'by another program'
            )
        return super().truncation()


class AvVideo(Video):
    """Video read by PyAV.

    Args:
        path: of the file.

    Raises:
        DataError: it cannot be opened, or holds no video.
    """

    def __init__(self, path: str):
        import av

        broken = DataError(f"'{path}' cannot be opened: broken, cut short, or no video")
        try:
            self._container = av.open(path, metadata_errors='ignore')
        except (av.FFmpegError, OSError, ValueError) as error:
            raise broken from error
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams or streams[0].codec_context is None:
            has_sound = bool(self._container.streams.audio)
            self._container.close()
            raise DataError(f"'{path}' holds sound and no video") if has_sound else broken
        self._stream = streams[0]
        self._stream.thread_type = 'AUTO'
        self._error: av.FFmpegError | OSError | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate or 0
        super().__init__(path, float(rate), self._stream.frames or self._count())

    def _count(self) -> int:
        """Estimate the number of frames from the duration."""
        stream = self._stream
        if stream.duration is None or not stream.time_base or not stream.average_rate:
            return 0
        return int(stream.duration * stream.time_base * stream.average_rate)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield a new array (H, W, 3) BGR uint8 for each frame."""
        with self._container:
            start = None
            for frame in self._decoded():
                time = frame.time
                if time is not None:
                    if start is None:
                        start = self.start = time
                    time -= start
                image = frame.to_ndarray(format='bgr24')
                yield self._add(_upright(image, frame), time)

    def _decoded(self) -> Iterator['av.VideoFrame']:
        """Yield whole frames until the end, or until the file is damaged."""
        import av

        deinterlacer = None
        try:
            for frame in self._container.decode(self._stream):
                if deinterlacer is None and not frame.interlaced_frame:
                    yield frame
                    continue
                deinterlacer = deinterlacer or _deinterlacer(frame, self._stream)
                deinterlacer.push(frame)
                yield from _pulled(deinterlacer)
            if deinterlacer is not None:
                deinterlacer.push(None)
                yield from _pulled(deinterlacer)
        except (av.FFmpegError, OSError) as error:
            self._error = error

    def truncation(self) -> str | None:
        """Return one line if frames are missing at the end; call it after reading all frames."""
        line = super().truncation()
        if line or self._error is None or self.read >= (self.frames or float('inf')):
            return line
        return f"'{self.name}' is damaged: {self.read} frames can be read ({self._error.strerror})"


def _is_cover(stream: 'av.VideoStream') -> bool:
    """Return whether a stream is a picture attached to a file of music."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def _deinterlacer(frame: 'av.VideoFrame', stream: 'av.VideoStream') -> 'av.filter.Graph':
    """Return a filter that makes one whole frame of two interlaced half frames."""
    import av.filter

    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add('yadif'),
        graph.add('buffersink'),
    ).configure()
    return graph


def _pulled(graph: 'av.filter.Graph') -> Iterator['av.VideoFrame']:
    """Yield the frames that a filter has finished."""
    import av

    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, av.error.EOFError):
            return


def _upright(image: np.ndarray, frame: 'av.VideoFrame') -> np.ndarray:
    """Turn and mirror a frame as the file's display matrix says.

    The matrix maps what is stored to what is shown: x' = a x + c y, y' = b x + d y
    (ISO/IEC 14496-12, 8.3.2).
    """
    data = frame.side_data.get('DISPLAYMATRIX')
    if data is None:
        return image
    matrix = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]
    (a, b), (c, d) = (np.sign(row) * (np.abs(row) > np.abs(matrix).max() / 2) for row in matrix)
    if a == 0 and d == 0 and b and c:  # stored rows become shown columns
        image, a, d = image.transpose(1, 0, 2), c, b
    if not (a and d):
        return image  # no turn by a multiple of 90 degrees
    return np.ascontiguousarray(image[:: int(d), :: int(a)])
