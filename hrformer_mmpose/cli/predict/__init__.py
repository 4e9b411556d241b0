"""`hrformer predict`: poses on images, folders, videos or a camera.

Inputs in a fixed order -> those of this shard -> those that no journal knows yet -> poses
(`inference.estimator`) -> picture, then the journal's line. At the end, from the journals of all
shards: COCO results, the images' numbers, a contact sheet.

Files may be added to the inputs between runs. The share of a shard shifts then, so that each run
looks into the journals of all shards for what is done, and results are written as soon as all
images of the inputs are found there.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import UserError
from ...imaging.drawing import draw_poses
from ...imaging.images import write_image
from ...inference import detectors, sources
from ...inference.estimator import Estimator, ImagePoses, PoseRuntime
from ...inference.networks import SUFFIXES
from ..terminal import INTERRUPTED, Progress
from .arguments import check, parser
from .journal import Content, Journal
from .outputs import (
    RESULTS,
    check_out,
    image_ids,
    make_folder,
    merge,
    output_names,
    report,
)
from .shards import (
    entry_of,
    journal_name,
    others,
    part_of,
    settings_of,
    stamp,
    taken_by,
)
from .videos import free_path, predict_video

__all__ = ['parser', 'run']

CHECKPOINTS = {'.pth', '.pt', '.safetensors'}
Stamp = list[int] | None  # of `parts.stamp`


def run(args: argparse.Namespace) -> int:
    """Predict; returns the exit status: 1 if an image, a box or a video could not be used."""
    check(args)
    shard, shards = part_of(args.shard)
    out = Path(args.out)
    inputs = sources.collect(args.inputs, out)
    check_out(out, args.force, inputs.camera is not None)
    moving = inputs.videos if inputs.camera is None else (sources.source_name(inputs.camera),)
    if moving and args.boxes.lower().endswith('.json'):
        raise UserError(f"--boxes {args.boxes}: a file of boxes is for images, not '{moving[0]}'")
    if shard == 0 and (line := inputs.skipped_line()):
        print(line)
    boxes = _boxes(args)
    if isinstance(boxes, detectors.CocoDetections):
        boxes.check_images(inputs.images)
    ids = image_ids(inputs.images, boxes)
    settings = settings_of(args)
    make_folder(out)
    if inputs.camera is not None:
        lines = free_path(out / f'camera-{inputs.camera}.jsonl')
        entry = predict_video(inputs.camera, lines, _estimator(args), boxes, args)
        return report([entry], {}, args)
    names, videos = inputs.images[shard::shards], inputs.videos[shard::shards]
    stamps = {name: stamp(name) for name in (*inputs.images, *inputs.videos)}
    with Journal(out / journal_name(shard, shards), settings, args.force) as journal:
        for name in RESULTS if args.force else ():
            (out / name).unlink(missing_ok=True)
        books = [journal, *([] if args.force else others(out, shard, shards, settings))]
        images_left, videos_left = (_left(part, books, stamps) for part in (names, videos))
        _say_done(out, [*names, *videos], [*images_left, *videos_left], books)
        estimator = _estimator(args)
        try:
            _images(images_left, inputs, estimator, boxes, books, args, stamps)
            _videos(videos_left, inputs, estimator, boxes, books, args, stamps)
        except KeyboardInterrupt:
            print('interrupted: the same command goes on from here', file=sys.stderr)
            return INTERRUPTED
        journal.finish()
        entries = [entry_of(name, books, stamps[name]) for name in (*names, *videos)]
    written = merge(out, shards, settings, inputs, ids, estimator.network.skeleton, args, stamps)
    return report(entries, written, args, shard, shards)


def _left(
    names: Sequence[str], books: Sequence[Content | Journal], stamps: Mapping[str, Stamp]
) -> list[str]:
    """Files that no journal has as done, or that have changed since."""
    return [name for name in names if not any(book.done(name, stamps[name]) for book in books)]


def _say_done(
    out: Path, names: list[str], left: list[str], books: Sequence[Content | Journal]
) -> None:
    done = len(names) - len(left)
    if names and not left:
        print(f"'{out}' already holds all of this (--force begins anew)")
    elif done:
        print(f"going on in '{out}': {done} of {len(names)} files are done")
    changed = [name for name in left if any(book.done(name) for book in books)]
    if changed:
        what = f'{len(changed)} files have' if changed[1:] else f"'{changed[0]}' has"
        print(f'{what} changed since the last run: predicted again')


def _estimator(args: argparse.Namespace) -> Estimator:
    common = dict(
        batch_size=args.batch_size, box_threshold=args.box_threshold or 0.0, on_error='skip'
    )
    if Path(args.model).suffix.lower() in SUFFIXES:
        given = [
            flag
            for flag, value in (
                ('--checkpoint', args.checkpoint),
                ('--device', args.device),
                ('--flip', args.flip),
                ('--precision', None if args.precision == 'float32' else args.precision),
            )
            if value is not None
        ]
        if given:
            raise UserError(f"{given[0]} is for configs: '{args.model}' is an exported network")
        return PoseRuntime(args.model, args.backend, args.threads, **common)
    if Path(args.model).suffix.lower() in CHECKPOINTS:
        raise UserError(
            f'--model {args.model} is a checkpoint: give it as --checkpoint, and its config '
            'as --model'
        )
    if args.checkpoint is None:
        raise UserError(f'--model {args.model} needs its weights: --checkpoint FILE')
    if args.backend is not None:
        raise UserError(f'--backend is for exported networks: {args.model} is a config')
    import torch

    from ...inference.torch_network import PoseEstimator

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device
    if device is None and torch.cuda.is_available():  # of several processes each takes its own
        device = f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    return PoseEstimator(args.model, args.checkpoint, device, args.precision, args.flip, **common)


def _boxes(args: argparse.Namespace):
    if args.boxes == 'hog':
        print(
            "looking for people with OpenCV's HOG detector, which finds upright people only and "
            'misses many; --boxes takes a better one'
        )
    return detectors.make_detector(args.boxes, args.annotations, args.box_threshold)


def _images(
    names: list[str],
    inputs: sources.Inputs,
    estimator: Estimator,
    boxes,
    books: Sequence[Content | Journal],
    args: argparse.Namespace,
    stamps: Mapping[str, Stamp],
) -> None:
    """Poses of the images that are left, each with its picture and its line in the first book."""
    if not names:
        return
    shard, shards = part_of(args.shard)
    total = len(inputs.images[shard::shards])
    pictures = {}
    if args.pictures:
        pictures = output_names(inputs.images, '.jpg', taken_by('picture', books))
    with Progress(total, 'images', total - len(names), shown=shard == 0) as progress:
        for found in estimator.stream(names, boxes, keep_images=args.pictures):
            entry = _entry(found, stamps[found.name])
            if found.image is not None:
                entry['picture'] = f'pictures/{pictures[found.name]}'
                path = Path(args.out) / entry['picture']
                make_folder(path.parent)
                write_image(path, draw_poses(found.image, found.poses, args.threshold))
            books[0].add(entry)
            progress.step(len(found.poses))


def _entry(found: ImagePoses, stamp: Stamp) -> dict:
    poses = [pose.to_dict() for pose in found.poses]
    entry = dict(name=found.name, file=stamp, shape=found.shape, poses=poses)
    if found.problems:
        entry['problems'] = found.problems
    if found.failed:
        entry['failed'] = True
    return entry


def _videos(
    names: list[str],
    inputs: sources.Inputs,
    estimator: Estimator,
    boxes,
    books: Sequence[Content | Journal],
    args: argparse.Namespace,
    stamps: Mapping[str, Stamp],
) -> None:
    """Poses of the videos that are left, each with its line in the first book."""
    lines = output_names(inputs.videos, '.jsonl', taken_by('lines', books))
    for name in names:
        path = Path(args.out) / 'videos' / lines[name]
        entry = predict_video(name, path, estimator, boxes, args)
        books[0].add(dict(entry, file=stamps[name]))
