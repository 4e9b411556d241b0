"""Prediction on a video or a camera: a line of JSON for each frame, and a drawn video.

A video is done in two passes. The network's poses are appended to a file of raw lines, frame by
frame; a run that was killed continues after the last whole line. Then the raw lines are read from
the start: people get identities, keypoints are smoothed, and the final lines and the drawn video
are written. A camera cannot be read twice: there both happen frame by frame.
"""

import contextlib
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from ...errors import DataError, UserError
from ...imaging.drawing import draw_poses
from ...imaging.poses import Pose
from ...imaging.skeleton import Skeleton
from ...inference import videos
from ...inference.detectors import FollowedBoxes, IntermittentDetector
from ...inference.estimator import Estimator
from ...inference.smoothing import FILTERS, Frame
from ...inference.tracking import Tracker
from ...inference.videos import Video
from ...io import naming
from ..terminal import Progress
from .arguments import Options
from .outputs import make_folder
from .raw_lines import RawLines
from .video_writer import open_writer


def predict_video(
    source: str | int, lines: Path, estimator: Estimator, boxes, options: Options, key: dict
) -> dict:
    """Predict poses on a video or a camera.

    Args:
        source: path of a video, or number of a camera.
        lines: file to write, with a line for each frame; the drawn video is written beside it.
        estimator: pose estimator.
        boxes: boxes of persons, as `Estimator.stream` takes them.
        options: options of the command.
        key: what the raw lines depend on; those of another key are not continued.

    Returns:
        The entry of the journal.
    """
    entry = dict(name=videos.source_name(source), kind='video', frames=0, persons=0)
    try:
        video = videos.open_video(source)
    except DataError as error:
        return dict(entry, failed=True, problems=[str(error)])
    make_folder(lines.parent)
    if isinstance(source, int):
        problems = _record(video, lines, estimator, boxes, options, entry)
    else:
        problems = _predict_file(video, lines, estimator, boxes, options, key, entry)
    if lines.is_file() and entry['frames']:
        entry['lines'] = lines.relative_to(options.out).as_posix()
    elif not entry['frames']:
        problems = problems or [f"'{video.name}' gave no frame"]
        entry['failed'] = True
    return dict(entry, problems=problems) if problems else entry


def _predict_file(
    video: Video, lines: Path, estimator: Estimator, boxes, options: Options, key: dict, entry: dict
) -> list[str]:
    """Write lines and drawn video of a file; return the problems."""
    with RawLines(lines.with_name(f'.part-{lines.name}'), key) as raw:
        if raw.count:
            print(f"continuing '{video.name}' at frame {raw.count}")
        if not raw.is_whole:
            with Progress(video.frames, 'frames', raw.count, options.shard == 0) as progress:
                for frame, image in estimate_missing(
                    raw, video, estimator, boxes, options, options.show
                ):
                    progress.step(len(frame.poses))
                    if options.show and not _show(_draw(image, frame.poses, options)):
                        raw.remove()
                        entry.update(failed=True, frames=raw.count)
                        return [f"'{video.name}' was ended by q: {raw.count} frames"]
        problems = raw.problems()
        if raw.count:
            skeleton = estimator.network.skeleton
            for _ in write_results(raw, video, skeleton, lines, options, entry, problems):
                pass
        raw.remove()
    return problems


def estimate_missing(
    raw: RawLines, video: Video, estimator: Estimator, boxes, options: Options, keep_images: bool
) -> Iterator[tuple[Frame, np.ndarray | None]]:
    """Append the frames that the raw lines lack to them; yield each, and its picture if kept."""
    poses = _estimate(video, estimator, boxes, options, keep_images, raw.count)
    for frame, image, problems in poses:
        raw.add(_row(frame), problems)
        yield frame, image
    raw.finish([line] if (line := video.truncation()) else [])


def write_results(
    raw: RawLines,
    video: Video,
    skeleton: Skeleton,
    lines: Path,
    options: Options,
    entry: dict,
    problems: list[str],
) -> Iterator[Frame]:
    """Write final lines and drawn video from raw lines; yield each frame after it is drawn.

    Args:
        raw: poses of all frames.
        video: the file.
        skeleton: keypoints of the network.
        lines: file to write, with the drawn video beside it.
        options: options of the command.
        entry: of the journal; `frames` and `persons` are counted.
        problems: receives one line for each problem.
    """
    frames = (_parse(row, skeleton) for row in raw.rows())
    partial = lines.with_name(f'.final-{lines.name}')
    undrawn = 0
    with contextlib.ExitStack() as stack:
        images = iter(videos.open_video(video.name) if options.pictures else ())
        if options.pictures:
            stack.callback(images.close)
        stack.callback(partial.unlink, missing_ok=True)
        stack.enter_context(naming(lines))
        rows = stack.enter_context(open(partial, 'w', encoding='utf-8'))
        writer = open_writer(lines.with_suffix('.mp4'), video.fps, video.name)
        stack.enter_context(writer)
        for frame, smooth in _refine(frames, options):
            _write(rows, frame, smooth, entry)
            image = next(images, None)
            if image is not None:
                writer.write(_draw(image, smooth.poses, options), frame.time)
            undrawn += image is None
            yield frame
        problems += writer.publish()
        rows.flush()
        os.replace(partial, lines)
    if options.pictures and undrawn:
        drawn = entry['frames'] - undrawn
        problems.append(
            f"'{video.name}' changed or is damaged: {entry['frames']} frames have poses, and only "
            f'{drawn} could be read again for the drawn video'
        )


def _estimate(
    video: Video,
    estimator: Estimator,
    boxes,
    options: Options,
    keep_images: bool,
    start: int = 0,
    live: bool = False,
) -> Iterator[tuple[Frame, np.ndarray | None, list[str]]]:
    """Yield the poses of each frame from number `start`, its picture and its problems."""
    images = itertools.islice(video, start, None)
    if options.detect_every > 1:
        boxes = IntermittentDetector(boxes, options.detect_every)
    follows = isinstance(boxes, FollowedBoxes | IntermittentDetector)
    live = live or follows
    results = estimator.stream(images, boxes, keep_images=keep_images, live=live)
    for number, result in enumerate(results, start):
        while len(video.infos) > video.read - number:  # of frames that were skipped
            video.infos.popleft()
        info = video.infos.popleft()
        if follows:
            boxes.update(result.poses)
            if info.is_cut:
                boxes.restart()
        name = f"frame {number} of '{video.name}'"
        problems = [line.replace(result.name, name) for line in result.problems]
        yield Frame(number, info.time, result.poses, info.is_cut), result.image, problems


def _refine(frames: Iterable[Frame], options: Options) -> Iterator[tuple[Frame, Frame]]:
    """Yield each frame with identities, and the same one with smoothed keypoints."""
    if not options.track:
        yield from ((frame, frame) for frame in frames)
        return
    tracked = _track(frames)
    if options.smooth is None:
        yield from ((frame, frame) for frame in tracked)
        return
    waiting: deque[Frame] = deque()
    source = (waiting.append(frame) or frame for frame in tracked)
    for smooth in FILTERS[options.smooth](threshold=options.threshold)(source):
        yield waiting.popleft(), smooth


def _track(frames: Iterable[Frame]) -> Iterator[Frame]:
    tracker = Tracker()
    for frame in frames:
        if frame.is_cut:
            tracker.cut()
        numbers = tracker.update(frame.poses, frame.time)
        poses = [
            replace(pose, track_id=number)
            for pose, number in zip(frame.poses, numbers, strict=True)
        ]
        yield replace(frame, poses=poses)


def _record(
    video: Video, lines: Path, estimator: Estimator, boxes, options: Options, entry: dict
) -> list[str]:
    """Write lines and drawn video of a camera until Ctrl-C; return the problems.

    After an error, such as a full disk, what was recorded until then is kept.
    """
    drawing = options.pictures or options.show
    images: deque[np.ndarray | None] = deque()
    problems: list[str] = []

    def estimated() -> Iterator[Frame]:
        for frame, image, lines_of_frame in _estimate(
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
            for frame, smooth in _refine(estimated(), options):
                image = images.popleft()
                _write(rows, frame, smooth, entry)
                progress.step(len(frame.poses))
                if drawing:
                    drawn = _draw(image, smooth.poses, options)
                    if options.pictures:
                        writer.write(drawn, frame.time)
                    if options.show and not _show(drawn):
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


def _write(rows, frame: Frame, smooth: Frame, entry: dict) -> None:
    """Write the line of a frame and count it."""
    rows.write(json.dumps(_row(frame, smooth), separators=(',', ':')) + '\n')
    entry['frames'] += 1
    entry['persons'] += len(frame.poses)


def _row(frame: Frame, smooth: Frame | None = None) -> dict:
    """Convert a frame to plain data: the network's keypoints, and smoothed ones beside them."""
    poses = [pose.to_dict() for pose in frame.poses]
    if smooth is not None and smooth is not frame:
        for values, pose in zip(poses, smooth.poses, strict=True):
            points = pose.keypoints.astype(np.float64).round(4).tolist()
            values['smoothed'] = dict(zip(pose.skeleton.names, points, strict=True))
    cut = dict(cut=True) if frame.is_cut else {}
    return dict(frame=frame.number, time=round(frame.time, 6), **cut, poses=poses)


def _parse(row: dict, skeleton: Skeleton) -> Frame:
    """Convert a raw line back to a frame."""
    poses = [Pose.from_dict(values, skeleton) for values in row['poses']]
    return Frame(row['frame'], row['time'], poses, row.get('cut', False))


def _draw(image: np.ndarray, poses: list[Pose], options: Options) -> np.ndarray:
    return draw_poses(image, poses, options.threshold, color_by=options.color_by)


def _show(picture: np.ndarray) -> bool:
    """Show a picture; return False when the user quits."""
    try:
        cv2.imshow('hrformer (q quits)', picture)
        return cv2.waitKey(1) & 0xFF != ord('q')
    except cv2.error as error:
        raise UserError('--show: this OpenCV has no windows (opencv-python has)') from error


def free_path(lines: Path) -> Path:
    """Return `lines`, numbered if a recording of that name exists or is being written."""
    numbered = (lines.with_stem(f'{lines.stem}-{number}') for number in itertools.count(2))
    return next(
        path
        for path in itertools.chain([lines], numbered)
        if not any(p.exists() for p in (path, path.with_suffix('.mp4'), _partial(path)))
    )
