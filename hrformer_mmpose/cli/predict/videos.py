"""Prediction on a video or a camera: a line of JSON for each frame, and a drawn video.

A video is done in two passes. The network's poses are appended to a file of raw lines, frame by
frame; a run that was killed continues after the last whole line. Then the raw lines are read from
the start: people get identities, keypoints are smoothed, and the final lines and the drawn video
are written. A camera cannot be read twice, see `recording.py`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...imaging.skeleton import Skeleton
from ...inference import videos
from ...inference.estimator import Estimator
from ...inference.smoothing import Frame
from ...inference.videos import Video
from ...io import naming
from ..terminal import Progress
from .arguments import Options
from .frames import draw, estimate, from_dict, refine, show, to_dict, write_line
from .outputs import make_folder
from .raw_lines import RawLines
from .recording import record
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
        problems = record(video, lines, estimator, boxes, options, entry)
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
    with RawLines(lines.with_name(f'.part-{lines.name}'), key, options.force) as raw:
        if raw.count:
            print(f"continuing '{video.name}' at frame {raw.count}")
        if not raw.is_whole:
            with Progress(video.frames, 'frames', raw.count, options.shard == 0) as progress:
                for frame, image in estimate_missing(
                    raw, video, estimator, boxes, options, options.show
                ):
                    progress.step(len(frame.poses))
                    if options.show and not show(draw(image, frame.poses, options)):
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
    poses = estimate(video, estimator, boxes, options, keep_images, raw.count)
    for frame, image, problems in poses:
        raw.add(to_dict(frame), problems)
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
    frames = (from_dict(row, skeleton) for row in raw.rows())
    partial = lines.with_name(f'.final-{lines.name}')
    undrawn = 0
    with contextlib.ExitStack() as stack:
        source, images = video, iter(())
        if options.pictures:
            with contextlib.suppress(DataError):  # deleted since, which is reported below
                source = videos.open_video(video.name)
                images = stack.enter_context(contextlib.closing(iter(source)))
        stack.callback(partial.unlink, missing_ok=True)
        stack.enter_context(naming(lines))
        rows = stack.enter_context(open(partial, 'w', encoding='utf-8'))
        writer = open_writer(lines.with_suffix('.mp4'), video.fps, source)
        stack.enter_context(writer)
        for frame, smooth in refine(frames, options):
            write_line(rows, frame, smooth, entry)
            image = next(images, None)
            if image is not None:
                writer.write(draw(image, smooth.poses, options), frame.time)
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
