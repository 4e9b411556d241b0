"""Prediction on a camera, which cannot be read twice: each frame is done when it arrives."""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from ...errors import UserError
from ...inference.estimator import Estimator
from ...inference.smoothing import Frame
from ...inference.videos import Video
from ...io import naming
from ..terminal import Progress
from .arguments import Options
from .frames import draw, estimate, refine, show, write_line
from .video_writer import open_writer


def record(
    video: Video, lines: Path, estimator: Estimator, boxes, options: Options, entry: dict
) -> list[str]:
    """Write lines and drawn video of a camera until Ctrl-C; return the problems.

    After an error, such as a full disk, what was recorded until then is kept.
    """
    drawing = options.pictures or options.show
    images: deque[np.ndarray | None] = deque()
    problems: list[str] = []

    def estimated() -> Iterator[Frame]:
        for frame, image, lines_of_frame in estimate(
            video, estimator, boxes, options, drawing, live=True
        ):
            problems.extend(lines_of_frame)
            images.append(image)
            yield frame

    with contextlib.ExitStack() as stack:
        writer = open_writer(lines.with_suffix('.mp4'), video.fps, None)
        stack.enter_context(writer)
        rows = stack.enter_context(_recording(lines, entry))
        progress = stack.enter_context(Progress(None, 'frames', shown=options.shard == 0))
        try:
            for frame, smooth in refine(estimated(), options):
                image = images.popleft()
                write_line(rows, frame, smooth, entry)
                progress.step(len(frame.poses))
                if drawing:
                    drawn = draw(image, smooth.poses, options)
                    if options.pictures:
                        writer.write(drawn, frame.time)
                    if options.show and not show(drawn):
                        break
        except KeyboardInterrupt:  # ends the recording
            pass
        finally:
            problems += writer.publish()
    return problems + ([line] if (line := video.truncation()) else [])


@contextlib.contextmanager
def _recording(lines: Path, entry: dict) -> Iterator[TextIO]:
    """Yield a file of lines that gets its name at the end, also after an error, if it has any."""
    partial = _partial(lines)
    try:
        rows = open(partial, 'x', encoding='utf-8')  # noqa: SIM115 (closed below)
    except FileExistsError as error:
        raise UserError(f"'{partial}' is being written by another run") from error
    try:
        with naming(partial), rows:
            yield rows
    finally:
        if entry['frames']:
            os.replace(partial, lines)
        else:
            os.remove(partial)


def _partial(lines: Path) -> Path:
    return lines.with_name(f'{lines.name}.part')


def free_path(lines: Path) -> Path:
    """Return `lines`, numbered if a recording of that name exists or is being written."""
    numbered = (lines.with_stem(f'{lines.stem}-{number}') for number in itertools.count(2))
    return next(
        path
        for path in itertools.chain([lines], numbered)
        if not any(p.exists() for p in (path, path.with_suffix('.mp4'), _partial(path)))
    )
