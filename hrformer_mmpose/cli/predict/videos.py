"""Prediction on a video or a camera: drawn frames, and a line of JSON for each frame."""

import contextlib
import itertools
import json
import os
from pathlib import Path

import cv2
import numpy as np

from ...errors import DataError, UserError
from ...imaging.drawing import draw_poses
from ...inference import sources
from ...inference.estimator import Estimator
from ..terminal import Progress
from .arguments import Options
from .outputs import make_folder


def predict_video(
    source: str | int, lines: Path, estimator: Estimator, boxes, options: Options
) -> dict:
    """Predict poses on a video or a camera.

    Args:
        source: path of a video, or number of a camera.
        lines: file to write, with a line for each frame; the drawn video is written beside it.
        estimator: pose estimator.
        boxes: boxes of persons, as `Estimator.stream` takes them.
        options: options of the command.

    Returns:
        The entry of the journal.
    """
    is_camera = isinstance(source, int)
    entry = dict(name=sources.source_name(source), kind='video', frames=0, persons=0)
    try:
        video = sources.Video(source)
    except DataError as error:
        return dict(entry, failed=True, problems=[str(error)])
    make_folder(lines.parent)
    drawing = options.pictures or options.show
    problems: list[str] = []
    frames = estimator.stream(video, boxes, keep_images=drawing, live=is_camera)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(lines.with_suffix('.mp4'), video.fps))
        rows = stack.enter_context(open(f'{lines}.part', 'w', encoding='utf-8'))
        progress = stack.enter_context(Progress(video.frames, 'frames', shown=options.shard == 0))
        if is_camera:  # Ctrl-C ends the recording
            stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for result in frames:
            row = dict(frame=entry['frames'], poses=[pose.to_dict() for pose in result.poses])
            rows.write(json.dumps(row, separators=(',', ':')) + '\n')
            frame = f"frame {entry['frames']} of '{video.name}'"
            problems += [line.replace(result.name, frame) for line in result.problems]
            entry['frames'] += 1
            entry['persons'] += len(result.poses)
            progress.step(len(result.poses))
            if not drawing:
                continue
            drawn = draw_poses(result.image, result.poses, options.threshold)
            if options.pictures:
                writer.write(drawn)
            if options.show and not _show(drawn):
                if not is_camera:
                    problems.append(f"'{video.name}' was ended by q: {entry['frames']} frames")
                    entry['failed'] = True
                break
    if not is_camera and not entry.get('failed') and (missing := video.truncation()):
        problems.append(missing)
    if entry['frames'] == 0:
        os.remove(f'{lines}.part')
        return dict(entry, failed=True, problems=problems or [f"'{video.name}' gave no frame"])
    problems += writer.publish()
    os.replace(f'{lines}.part', lines)
    entry['lines'] = lines.relative_to(options.out).as_posix()
    return dict(entry, problems=problems) if problems else entry


class VideoWriter:
    """Writer of a drawn video, under a temporary name until `publish`.

    If OpenCV cannot encode the video, `publish` reports that, and the poses are written without it.

    Args:
        path: `.mp4` file.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self._fps = path, fps
        self._partial = path.with_name(f'.part-{path.name}')
        self._writer = None
        self._opened = False

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) BGR uint8."""
        if self._writer is None:
            # The size of the frame, not of the file: a video may be rotated when it is read.
            size = frame.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, size)
            self._opened = self._writer.isOpened()
        if self._opened:
            self._writer.write(frame)

    def publish(self) -> list[str]:
        """Rename the finished file; return problems, one line each."""
        if self._writer is None:
            return []
        if self._opened:
            os.replace(self._partial, self.path)
            return []
        self._partial.unlink(missing_ok=True)
        return [
            f"'{self.path}' cannot be written: OpenCV has no encoder for mp4 here "
            '(--no-pictures does not need one)'
        ]

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, *exception) -> None:
        if self._writer is not None:
            self._writer.release()


def _show(picture: np.ndarray) -> bool:
    """Show a picture; return False when the user quits."""
    try:
        cv2.imshow('hrformer (q quits)', picture)
        return cv2.waitKey(1) & 0xFF != ord('q')
    except cv2.error as error:
        raise UserError('--show: this OpenCV has no windows (opencv-python has)') from error


def free_path(lines: Path) -> Path:
    """Return `lines`, numbered if a file of lines or a drawn video of that name exists."""
    numbered = (lines.with_stem(f'{lines.stem}-{number}') for number in itertools.count(2))
    return next(
        path
        for path in itertools.chain([lines], numbered)
        if not path.exists() and not path.with_suffix('.mp4').exists()
    )
