"""Poses on a video of the page, in the two passes of `hrformer predict`.

The first pass writes the network's poses to raw lines, which are kept while the tab is open:
another threshold, tracking or smoothing runs the second pass alone, and a pass that was stopped
continues.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...imaging.poses import Pose
from ...inference.detectors import FollowedBoxes
from ...inference.pairing import WHOLE_IMAGE
from ...inference.videos import open_video
from ..predict.raw_lines import RawLines
from ..predict.videos import estimate_missing, write_results
from .arguments import Limits
from .choices import DETECT, WHOLE, Choices
from .model import Model
from .pictures import MAX_PIXELS
from .storage import file_stem

EBML = b'\x1a\x45\xdf\xa3'  # Matroska, WebM
MPEG = (b'\x00\x00\x01\xba', b'\x00\x00\x01\xb3')  # program stream, MPEG-1 and 2
QUICKTIME = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')


@dataclass(frozen=True, eq=False)
class Clip:
    """A video.

    Attributes:
        path: of the upload.
        name: for messages and names of results.
        folder: of raw lines and results.
        first: (H, W, 3) BGR uint8, its first frame.
        frames: their number, as the file states it; None if it states none.
        fps: frames a second, on average.
    """

    path: Path
    name: str
    folder: Path
    first: np.ndarray
    frames: int | None
    fps: float

    @property
    def lines(self) -> Path:
        """Path of the JSON lines."""
        return self.folder / f'{file_stem(self.name)}-poses.jsonl'

    @property
    def drawn(self) -> Path:
        """Path of the drawn video."""
        return self.lines.with_suffix('.mp4')


@dataclass(eq=False)
class Outcome:
    """Outcome of `process`.

    Attributes:
        frames: of the video.
        persons: of all frames.
        problems: one line each.
    """

    frames: int = 0
    persons: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Step:
    """Progress of `process`.

    Attributes:
        action: 'estimating' or 'drawing'.
        done: frames.
        image: (H, W, 3) BGR uint8, the last frame; None while drawing.
        poses: of that frame.
    """

    action: str
    done: int
    image: np.ndarray | None = None
    poses: Sequence[Pose] = ()


def is_video(start: bytes) -> bool:
    """Return whether the first bytes of a file are those of a video.

    FFmpeg also opens playlists, which are text and name other files of this machine.
    """
    is_avi = start[:4] == b'RIFF' and start[8:12] == b'AVI '
    is_stream = start[:1] == b'G' and start[188:189] == b'G'  # MPEG transport stream
    return start[:4] == EBML or start[:4] in MPEG or start[4:8] in QUICKTIME or is_avi or is_stream


def open_clip(path: Path, name: str, folder: Path, limits: Limits) -> Clip:
    """Check an upload, and read its first frame.

    Args:
        path: of the upload.
        name: for messages and names of results.
        folder: of raw lines and results; is created.
        limits: bounds of its length.

    Raises:
        DataError: it is not a video, or too long, or too large.
    """
    with open(path, 'rb') as file:
        start = file.read(256)
    if not is_video(start):
        raise DataError(f"'{name}' is no video: give MP4, MOV, MKV, WebM, AVI or MPEG")
    try:
        video = open_video(str(path))
        first = next(iter(video), None)
    except DataError as error:
        raise DataError(str(error).replace(str(path), name)) from error
    if first is None:
        raise DataError(f"'{name}' gives no frame: it is broken, or cut short")
    if first.shape[0] * first.shape[1] > MAX_PIXELS:
        raise DataError(f"'{name}' has {first.shape[1]} x {first.shape[0]} pixels: make it smaller")
    if video.frames:
        check_length(name, video.frames, video.frames / video.fps, limits)
    folder.mkdir(parents=True)
    return Clip(path, name, folder, first, video.frames, video.fps)


def check_length(name: str, frames: int, seconds: float, limits: Limits) -> None:
    """Raise a `DataError` if a video is longer than its bound."""
    if seconds > limits.seconds:
        raise DataError(
            f"'{name}' is longer than the {limits.seconds:g} seconds that this page takes: cut it, "
            'or start the page with --max-seconds'
        )
    if frames > limits.frames:
        raise DataError(
            f"'{name}' has more than the {limits.frames:,} frames that this page takes: cut it, or "
            'start the page with --max-seconds'
        )


def describe(clip: Clip) -> str:
    """Return a line about a video."""
    size = f'{clip.first.shape[1]} x {clip.first.shape[0]} pixels'
    length = f', {clip.frames / clip.fps:.1f} s' if clip.frames else ''
    return f"'{clip.name}', {size}{length}"


def process(
    clip: Clip, choices: Choices, model: Model, limits: Limits, outcome: Outcome
) -> Iterator[Step]:
    """Estimate the poses that are missing, then write results.

    Args:
        clip: the video.
        choices: of the page.
        model: network and detector.
        limits: bounds of its length.
        outcome: is filled in at the end.

    Yields:
        Progress, after each frame.

    Raises:
        DataError: the video is longer than its file says, or gives no frame.
    """
    options, skeleton = (
        choices.options(model.options, clip.folder),
        model.estimator.network.skeleton,
    )
    video = open_video(str(clip.path))
    key = dict(people=choices.people, boxes=choices.boxes, every=options.detect_every)
    with RawLines(clip.folder / 'raw.jsonl', key) as raw:
        if not raw.is_whole:
            boxes = _source_of_boxes(choices, model, raw)
            for frame, image in estimate_missing(raw, video, model.estimator, boxes, options, True):
                check_length(clip.name, raw.count, frame.time, limits)
                yield Step('estimating', raw.count, image, frame.poses)
        if not raw.count:
            raise DataError(f"'{clip.name}' gives no frame: it is broken, or cut short")
        problems, entry = raw.problems(), dict(frames=0, persons=0)
        steps = write_results(raw, video, skeleton, clip.lines, options, entry, problems)
        for _ in steps:
            yield Step('drawing', entry['frames'])
    outcome.frames, outcome.persons = entry['frames'], entry['persons']
    outcome.problems = [line.replace(str(clip.path), clip.name) for line in problems]


def _source_of_boxes(choices: Choices, model: Model, raw: RawLines):
    """Return the boxes of the frames that the raw lines lack, as `Estimator.stream` takes them."""
    if choices.people == WHOLE:
        return WHOLE_IMAGE
    if choices.people == DETECT:
        if model.detector is None:
            raise DataError('no detector is loaded: start the page with --boxes onnx:FILE')
        return model.detector
    boxes = FollowedBoxes(np.array(choices.boxes, np.float32))
    last = None
    for last in raw.rows():  # noqa: B007 (the one before the first missing frame)
        pass
    if last is not None:
        skeleton = model.estimator.network.skeleton
        boxes.update([Pose.from_dict(values, skeleton) for values in last['poses']])
    return boxes


def summary(outcome: Outcome) -> str:
    """Return a line about a video that is done."""
    frames = '1 frame' if outcome.frames == 1 else f'{outcome.frames:,} frames'
    poses = '1 pose' if outcome.persons == 1 else f'{outcome.persons:,} poses'
    return f'{frames}, {poses}.'


def is_playable() -> bool:
    """Return whether drawn videos are of a kind that browsers play: PyAV writes H.264."""
    return importlib.util.find_spec('av') is not None
