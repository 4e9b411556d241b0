"""Writers of drawn videos, under a temporary name until `publish`."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...inference.videos import Video
from ...io import DISK_ERRORS

if TYPE_CHECKING:
    import av

CLOCK = 60_000  # ticks a second: usual rates fit exactly, and MPEG-4 takes no more than 65,535
QUALITY = '20'  # of x264, lower is better: 17 cannot be told from the source
ENCODERS = ('libx264', 'libopenh264', 'mpeg4')  # builds of PyAV differ
BITS_A_PIXEL = 0.25  # of the encoders that know no quality


class OpenCVWriter:
    """Writer by OpenCV: MPEG-4 video at equal distances in time, without sound.

    Args:
        path: `.mp4` file.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self._fps = path, fps
        self._partial = path.with_name(f'.part-{path.name}')
        self._writer = None
        self._opened = False
        self._count = 0

    def write(self, frame: np.ndarray, time: float) -> None:
        """Add a frame, (H, W, 3) BGR uint8; its time is not used."""
        if self._writer is None:
            # The size of the frame, not of the file: a video may be rotated when it is read.
            size = frame.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, size)
            self._opened = self._writer.isOpened()
        if self._opened:
            self._writer.write(frame)
            self._count += 1

    def publish(self) -> list[str]:
        """Rename the finished file; return problems, one line each."""
        if self._writer is None:
            return []
        self._writer.release()
        if self._opened:
            self._check()
            os.replace(self._partial, self.path)
            return []
        return [
            f"'{self.path}' cannot be written: OpenCV has no encoder for mp4 here "
            '(--no-pictures does not need one; pip install av brings one)'
        ]

    def _check(self) -> None:
        """Raise an OSError if frames are missing: OpenCV does not report a full disk."""
        capture = cv2.VideoCapture(str(self._partial))
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        if count < 0.9 * self._count:  # some systems' writers drop single frames
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def __enter__(self) -> 'OpenCVWriter':
        return self

    def __exit__(self, *exception) -> None:
        if self._writer is not None:
            self._writer.release()
        self._partial.unlink(missing_ok=True)


class AvWriter:
    """Writer by PyAV: H.264 that browsers and phones play, with the frames' times and the sound.

    Args:
        path: `.mp4` file.
        fps: frames a second, on average.
        source: the video that is drawn, whose first sound track is copied; None: no sound.
    """

    def __init__(self, path: Path, fps: float, source: Video | None = None):
        self.path, self._fps, self._source = path, fps, source
        self._partial = path.with_name(f'.part-{path.name}')
        self._container = self._stream = self._packets = None
        self._tracks = contextlib.ExitStack()
        self._problems: list[str] = []
        self._pts = -1  # of the last frame, in ticks

    def write(self, frame: np.ndarray, time: float) -> None:
        """Add a frame.

        Args:
            frame: (H, W, 3) BGR uint8.
            time: in seconds from the first frame.
        """
        import av

        # 4:2:0 has no odd sizes.
        rows, columns = (n % 2 for n in frame.shape[:2])
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), 'edge')
        with self._problem_of_encoder():
            if self._container is None:
                self._open(*frame.shape[:2])
            if self._stream is None:  # no encoder, or an earlier problem
                return
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='bgr24')
            self._pts = max(round(time * CLOCK), self._pts + 1)  # equal times are refused
            picture.pts, picture.time_base = self._pts, Fraction(1, CLOCK)
            self._container.mux(self._stream.encode(picture))

    @contextlib.contextmanager
    def _problem_of_encoder(self) -> Iterator[None]:
        """Record an error of FFmpeg as a problem and end the drawing; raise errors of the disk."""
        import av

        try:
            yield
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            self._stream = None
            self._problems.append(
                f"'{self.path}' cannot be written as video ({error.strerror}): --no-pictures "
                'leaves it out'
            )

    def _open(self, height: int, width: int) -> None:
        import av

        self._container = av.open(
            str(self._partial), 'w', format='mp4', options={'movflags': 'faststart'}
        )
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._add_stream(rate)
        if self._stream is None:
            return
        if self._stream.codec_context.name != 'libx264':
            self._stream.codec_context.bit_rate = int(BITS_A_PIXEL * width * height * rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, 'yuv420p'
        self._stream.codec_context.time_base = Fraction(1, CLOCK)
        if self._source is not None:
            self._open_sound()

    def _add_stream(self, rate: Fraction) -> 'av.VideoStream | None':
        """Add a stream of the best encoder of this PyAV; None if it has none."""
        for name in ENCODERS:
            options = {'crf': QUALITY} if name == 'libx264' else {}
            with contextlib.suppress(ValueError):  # unknown
                stream = self._container.add_stream(name, rate, options=options)
                if name == 'mpeg4':
                    print(
                        f"'{self.path}' is MPEG-4, which browsers do not play: this PyAV has no "
                        'encoder for H.264 (pip install av brings one)',
                        file=sys.stderr,
                    )
                return stream
        self._problems.append(
            f"'{self.path}' cannot be written: this PyAV has no encoder for mp4 "
            '(--no-pictures does not need one; pip install av brings one)'
        )
        return None

    def _open_sound(self) -> None:
        import av

        container = self._tracks.enter_context(av.open(self._source.name, metadata_errors='ignore'))
        if not container.streams.audio:
            return
        track = container.streams.audio[0]
        try:
            copy = self._container.add_stream_from_template(track)
            self._packets = container.demux(track), copy
        except (av.FFmpegError, ValueError) as error:
            self._problems.append(
                f"the sound of '{self._source.name}' cannot be copied to mp4: {error}"
            )

    def _copy_sound(self) -> None:
        import av

        packets, copy = self._packets
        try:
            for packet in packets:
                if packet.pts is None or packet.dts is None:
                    continue
                start = round(self._source.start / packet.time_base)
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                if packet.pts + (packet.duration or 0) >= 0:  # the first one may prime the decoder
                    packet.stream = copy
                    self._container.mux(packet)
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            self._problems.append(f"the sound of '{self._source.name}' was copied in part: {error}")

    def publish(self) -> list[str]:
        """Finish and rename the file; return problems, one line each."""
        if self._stream is None:
            return self._problems
        with self._problem_of_encoder():
            self._container.mux(self._stream.encode())
            if self._packets is not None:
                self._copy_sound()
            self._container.close()
            os.replace(self._partial, self.path)
        return self._problems

    def __enter__(self) -> 'AvWriter':
        return self

    def __exit__(self, *exception) -> None:
        if self._container is not None:
            with contextlib.suppress(Exception):  # closed, or an error is on its way
                self._container.close()
            self._tracks.close()
        self._partial.unlink(missing_ok=True)


def open_writer(path: Path, fps: float, source: Video | None) -> AvWriter | OpenCVWriter:
    """Return the best writer that is installed.

    Args:
        path: `.mp4` file.
        fps: frames a second, on average.
        source: the video that is drawn; None for a camera.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        return OpenCVWriter(path, fps)
    return AvWriter(path, fps, source)
