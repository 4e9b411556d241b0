"""Poses of a video or a camera: drawn frames, and a line of JSON for each."""

import argparse
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
from .outputs import make_folder
from .shards import part_of


def predict_video(
    source: str | int, lines: Path, estimator: Estimator, boxes, args: argparse.Namespace
) -> dict:
    """Poses of a video or a camera; returns its entry.

    Args:
        lines: where to write a line for each frame; the drawn video goes beside it.
    """
    is_camera = isinstance(source, int)
    entry = dict(name=sources.source_name(source), kind='video', frames=0, persons=0)
    try:
        video = sources.Video(source)
    except DataError as error:
        return dict(entry, failed=True, problems=[str(error)])
    make_folder(lines.parent)
    drawing = args.pictures or args.show
    problems: list[str] = []
    frames = estimator.stream(video, boxes, keep_images=drawing, live=is_camera)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(lines.with_suffix('.mp4'), video.fps))
        rows = stack.enter_context(open(f'{lines}.part', 'w', encoding='utf-8'))
        shown = part_of(args.shard)[0] == 0
        progress = stack.enter_context(Progress(video.frames, 'frames', shown=shown))
        if is_camera:  # Ctrl-C is how it ends
            stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for found in frames:
            row = dict(frame=entry['frames'], poses=[pose.to_dict() for pose in found.poses])
            rows.write(json.dumps(row, separators=(',', ':')) + '\n')
            frame = f"frame {entry['frames']} of '{video.name}'"
            problems += [line.replace(found.name, frame) for line in found.problems]
            entry['frames'] += 1
            entry['persons'] += len(found.poses)
            progress.step(len(found.poses))
            if not drawing:
                continue
            drawn = draw_poses(found.image, found.poses, args.threshold)
            if args.pictures:
                writer.write(drawn)
            if args.show and not _shown(drawn):
                if not is_camera:
                    problems.append(f"'{video.name}' was ended by q: {entry['frames']} frames")
                    entry['failed'] = True
                break
    if not is_camera and not entry.get('failed') and (missing := video.truncation()):
        problems.append(missing)
    if entry['frames'] == 0:
        os.remove(f'{lines}.part')
        return dict(entry, failed=True, problems=problems or [f"'{video.name}' gave no frame"])
    problems += writer.keep()
    os.replace(f'{lines}.part', lines)
    entry['lines'] = lines.relative_to(args.out).as_posix()
    return dict(entry, problems=problems) if problems else entry


class VideoWriter:
    """A drawn video, begun with its first frame, under another name until `keep`.

    Where OpenCV cannot encode it there is none, which `keep` tells: poses are worth having alone.

    Args:
        path: `.mp4`. fps: frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self._fps = path, fps
        self._partial = path.with_name(f'.part-{path.name}')
        self._writer = None
        self._opened = False

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) BGR uint8."""
        if self._writer is None:
            # By the frame, not by what the file says of it: the video may be turned on reading.
            size = frame.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, size)
            self._opened = self._writer.isOpened()
        if self._opened:
            self._writer.write(frame)

    def keep(self) -> list[str]:
        """After the end: give the file its name; what kept it from being written, in lines."""
        if self._writer is None:
            return []
        if self._opened:
            os.replace(self._partial, self.path)
            return []
        self._partial.unlink(missing_ok=True)
        return [
            f"'{self.path}' cannot be written: OpenCV has no encoder for mp4 here "
            '(--no-pictures goes without)'
        ]

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, *exception) -> None:
        if self._writer is not None:
            self._writer.release()


def _shown(picture: np.ndarray) -> bool:
    """Show a picture; False when the user has had enough."""
    try:
        cv2.imshow('hrformer (q ends)', picture)
        return cv2.waitKey(1) & 0xFF != ord('q')
    except cv2.error as error:
        raise UserError('--show: this OpenCV has no windows (opencv-python has)') from error


def free_path(lines: Path) -> Path:
    """`lines`, or the first numbered path of which neither lines nor a drawn video exist."""
    numbered = (lines.with_stem(f'{lines.stem}-{number}') for number in itertools.count(2))
    return next(
        path
        for path in itertools.chain([lines], numbered)
        if not path.exists() and not path.with_suffix('.mp4').exists()
    )
