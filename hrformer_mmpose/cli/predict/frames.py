"""Frames of a video or a camera: their poses, tracks and smoothed keypoints, lines and pictures."""

import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TextIO

import cv2
import numpy as np

from ...errors import UserError
from ...imaging.drawing import draw_poses
from ...imaging.poses import Pose
from ...imaging.skeleton import Skeleton
from ...inference.detectors import FollowedBoxes, IntermittentDetector
from ...inference.estimator import Estimator
from ...inference.smoothing import FILTERS, Frame
from ...inference.tracking import Tracker
from ...inference.videos import Video
from .arguments import Options


def estimate(
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


def refine(frames: Iterable[Frame], options: Options) -> Iterator[tuple[Frame, Frame]]:
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


def write_line(rows: TextIO, frame: Frame, smooth: Frame, entry: dict) -> None:
    """Write the line of a frame and count it."""
    rows.write(json.dumps(to_dict(frame, smooth), separators=(',', ':')) + '\n')
    entry['frames'] += 1
    entry['persons'] += len(frame.poses)


def to_dict(frame: Frame, smooth: Frame | None = None) -> dict:
    """Convert a frame to plain data: the network's keypoints, and smoothed ones beside them."""
    poses = [pose.to_dict() for pose in frame.poses]
    if smooth is not None and smooth is not frame:
        for values, pose in zip(poses, smooth.poses, strict=True):
            points = pose.keypoints.astype(np.float64).round(4).tolist()
            values['smoothed'] = dict(zip(pose.skeleton.names, points, strict=True))
    cut = dict(cut=True) if frame.is_cut else {}
    return dict(frame=frame.number, time=round(frame.time, 6), **cut, poses=poses)


def from_dict(row: dict, skeleton: Skeleton) -> Frame:
    """Convert a raw line back to a frame."""
    poses = [Pose.from_dict(values, skeleton) for values in row['poses']]
    return Frame(row['frame'], row['time'], poses, row.get('cut', False))


def draw(image: np.ndarray, poses: list[Pose], options: Options) -> np.ndarray:
    """Draw the poses of a frame."""
    return draw_poses(image, poses, options.threshold, color_by=options.color_by)


def show(picture: np.ndarray) -> bool:
    """Show a picture; return False when the user quits."""
    try:
        cv2.imshow('hrformer (q quits)', picture)
        return cv2.waitKey(1) & 0xFF != ord('q')
    except cv2.error as error:
        raise UserError('--show: this OpenCV has no windows (opencv-python has)') from error
