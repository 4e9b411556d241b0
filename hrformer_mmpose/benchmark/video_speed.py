"""Time of a video's steps beside the network's: reading, tracking, smoothing, drawing, writing."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from ..imaging.drawing import draw_poses
from ..imaging.poses import Pose
from ..inference.smoothing import Frame, LocalPolynomial
from ..inference.torch_network import PoseEstimator
from ..inference.tracking import Tracker
from ..inference.videos import Video, open_video
from ..synthetic.motion import Film
from .poses import random_weights
from .timing import Timer, device_of

SIZE = 1280, 720
PEOPLE = 4  # in the film, of whom three to four are in a frame
FPS = 25.0
SEED = 3
NETWORK = 'network'
Writer = Callable[[Path, float, Video | None], AbstractContextManager[Any]]


@dataclass(frozen=True)
class VideoOptions:
    """Options of `run`.

    Attributes:
        config: path or name of a config; its weights are random.
        length: frames of the film.
        threads: number of CPU threads.
        rounds: number of timed rounds.
    """

    config: str
    length: int
    threads: int
    rounds: int


def run(args: VideoOptions, open_writer: Writer) -> dict:
    """Time the steps in turns and print a table.

    Args:
        args: options.
        open_writer: opens a writer of videos, by path, frames a second and video with the sound.

    Returns:
        `rows` of the table: step, seconds a frame by round, share of the network's time.
    """
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        steps, people = _steps(args, Path(folder), open_writer)
        print(
            f'{args.config}, {args.length} frames of {SIZE[0]}x{SIZE[1]}, {people:.1f} persons a '
            f'frame, {args.threads} threads'
        )
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        timer = Timer(device_of('cpu'))
        for number in range(args.rounds + 1):
            print(f'\r\x1b[K  round {number} of {args.rounds}', end='', flush=True)
            for name, step in steps.items():
                duration = timer.seconds(step) / args.length
                if number:  # the first one warms up
                    seconds[name].append(duration)
    rows = _rows(seconds)
    print(f'\r\x1b[K  {"":<24}{"ms a frame":>12}{"(lowest to highest)":>24}{"of the network":>18}')
    for row in rows:
        low, high = 1e3 * min(row['seconds']), 1e3 * max(row['seconds'])
        print(
            f'  {row["step"]:<24}{1e3 * median(row["seconds"]):12.1f}'
            f'{f"({low:.1f} to {high:.1f})":>24}{row["share"]:18.1%}'
        )
    return dict(rows=rows)


def _rows(seconds: dict[str, list[float]]) -> list[dict]:
    """Return the rows of the steps, and of all but the network together."""
    others = {name: values for name, values in seconds.items() if name != NETWORK}
    together = [sum(values) for values in zip(*others.values(), strict=True)]
    return [
        dict(
            step=name,
            seconds=values,
            share=median(a / b for a, b in zip(values, seconds[NETWORK], strict=True)),
        )
        for name, values in {**seconds, 'all but the network': together}.items()
    ]


def _steps(
    args: VideoOptions, folder: Path, open_writer: Writer
) -> tuple[dict[str, Callable], float]:
    """Make a film; return the steps by name, and the mean number of persons in a frame."""
    film = Film(PEOPLE, args.length, SIZE, FPS, seed=SEED)
    source, target = folder / 'film.mp4', folder / 'drawn.mp4'
    images = list(film)
    _write(open_writer, source, images)
    poses = [
        [Pose(p.keypoints, np.ones(len(p.keypoints)), p.box, track_id=p.track_id) for p in people]
        for people in map(film.truth, range(args.length))
    ]
    boxes = [np.array([[*pose.box, 1] for pose in row]).reshape(-1, 5) for row in poses]
    checkpoint = random_weights(args.config, str(folder))
    # Without the mirror image, which would double the network's time.
    estimator = PoseEstimator(args.config, checkpoint, 'cpu', flip_test=False)
    frames = [Frame(number, number / FPS, row) for number, row in enumerate(poses)]

    def read() -> None:
        for _ in open_video(str(source)):
            pass

    def track() -> None:
        tracker = Tracker()
        for frame in frames:
            tracker.update(frame.poses, frame.time)

    def draw() -> None:
        for image, row in zip(images, poses, strict=True):
            draw_poses(image, row, color_by='id')

    steps = {
        NETWORK: lambda: list(estimator.stream(images, boxes)),
        'reading, for the poses': read,
        'reading, for the drawing': read,
        'tracking': track,
        'smoothing (savgol)': lambda: list(LocalPolynomial()(frames)),
        'drawing': draw,
        'writing H.264': lambda: _write(open_writer, target, images),
    }
    return steps, sum(map(len, poses)) / args.length


def _write(open_writer: Writer, path: Path, images: list[np.ndarray]) -> None:
    with open_writer(path, FPS, None) as writer:
        for number, image in enumerate(images):
            writer.write(image, number / FPS)
        writer.publish()
