"""`hrformer predict`: poses on images, folders, videos or a camera.

Inputs in a fixed order -> those of this shard -> those that no journal knows yet -> poses
(`runtime.estimator`) -> picture, then the journal's line. At the end, from the journals of all
shards: COCO results, the images' numbers, a contact sheet.

Files may be added to the inputs between runs. The share of a shard shifts then, so that each run
looks into the journals of all shards for what is done, and results are written as soon as all
images of the inputs are found there.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..runtime import detectors, sources
from ..runtime.drawing import draw_poses
from ..runtime.estimator import Estimator, ImagePoses, PoseRuntime
from ..runtime.images import write_image
from ..runtime.networks import BACKENDS, SUFFIXES
from ..terminal import INTERRUPTED, Progress
from .journal import Content, Journal
from .outputs import (
    RESULTS,
    check_out,
    image_ids,
    is_ours,
    make_folder,
    merge,
    output_names,
    report,
)
from .parts import entry_of, journal_name, others, part_of, settings_of, taken_by
from .videos import free_path, predict_video

CHECKPOINTS = {'.pth', '.pt', '.safetensors'}


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        description='Poses on images, folders, videos or a camera. Results go to --out; a run that '
        'was interrupted goes on when the same command is given again.',
    )
    made.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='image, video, folder, glob, or camera[:NUMBER]'
    )
    made.add_argument(
        '--model', required=True, help='exported network (.onnx, .xml), or a config or its name'
    )
    made.add_argument('--checkpoint', help='weights, with a config')
    made.add_argument(
        '--boxes',
        default='hog',
        help="where persons are: 'whole-image'; a COCO detection or annotation file (.json); "
        "onnx:FILE or torchvision:FILE, a detector; 'hog' (default), OpenCV's built-in people "
        'detector, which finds upright people only',
    )
    made.add_argument(
        '--annotations', metavar='FILE', help='COCO file that numbers the images (for --boxes JSON)'
    )
    made.add_argument('--out', default='predictions', help='folder for results (%(default)s)')
    made.add_argument('--force', action='store_true', help='begin anew in an --out that exists')
    made.add_argument('--no-pictures', dest='pictures', action='store_false', help='draw nothing')
    made.add_argument('--show', action='store_true', help='show videos in a window; q ends')
    made.add_argument(
        '--threshold', type=float, default=0.3, help='keypoints drawn (%(default)s and up)'
    )
    made.add_argument('--box-threshold', type=float, help='leave out boxes with a lower score')
    made.add_argument('--batch-size', type=int, default=32, help='persons at a time (%(default)s)')
    made.add_argument('--shard', metavar='I/N', help='take the I-th of N parts (0/N to N-1/N)')
    made.add_argument('--threads', type=int, help='of the CPU')
    made.add_argument('--backend', choices=BACKENDS, help='for an exported network')
    made.add_argument('--device', help='for a config: cpu, cuda, cuda:1, ...')
    made.add_argument(
        '--precision',
        default='float32',
        choices=['float32', 'auto', 'float16', 'bfloat16'],
        help='for a config (%(default)s)',
    )
    made.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='for a config: average over the mirror image (default: as the config says)',
    )
    return made


def run(args: argparse.Namespace) -> int:
    """Predict; returns the exit status: 1 if an image, a box or a video could not be used."""
    shard, shards = part_of(args.shard)
    out = Path(args.out)
    inputs = sources.collect(args.inputs, out)
    check_out(out, args.force)
    moving = inputs.videos if inputs.camera is None else (sources.source_name(inputs.camera),)
    if moving and args.boxes.lower().endswith('.json'):
        raise UserError(f"--boxes {args.boxes}: a file of boxes is for images, not '{moving[0]}'")
    if shard == 0 and (line := inputs.skipped_line()):
        print(line)
    boxes = _boxes(args)
    ids = image_ids(inputs.images, boxes)
    settings = settings_of(args)
    make_folder(out)
    if inputs.camera is not None:
        lines = free_path(out / f'camera-{inputs.camera}.jsonl')
        entry = predict_video(inputs.camera, lines, _estimator(args), boxes, args)
        return report([entry], {}, args)
    stale = args.force and is_ours(out)
    names, videos = inputs.images[shard::shards], inputs.videos[shard::shards]
    with Journal(out / journal_name(shard, shards), settings, args.force) as journal:
        for name in RESULTS if stale else ():
            (out / name).unlink(missing_ok=True)
        books = [journal, *([] if args.force else others(out, shard, shards, settings))]
        images_left, videos_left = (
            [name for name in part if not any(book.done(name) for book in books)]
            for part in (names, videos)
        )
        count = len(names) + len(videos)
        done = count - len(images_left) - len(videos_left)
        if count and done == count:
            print(f"'{out}' already holds all of this (--force begins anew)")
        elif done:
            print(f"going on in '{out}': {done} of {count} files are done")
        estimator = _estimator(args)
        try:
            _images(images_left, inputs, estimator, boxes, books, args)
            _videos(videos_left, inputs, estimator, boxes, books, args)
        except KeyboardInterrupt:
            print('interrupted: the same command goes on from here', file=sys.stderr)
            return INTERRUPTED
        journal.finish()
        entries = [entry_of(name, books) for name in (*names, *videos)]
    written = merge(out, shards, settings, inputs, ids, estimator.network.skeleton, args)
    return report(entries, written, args, shard, shards)


def _estimator(args: argparse.Namespace) -> Estimator:
    if args.threads is not None and args.threads < 1:
        raise UserError(f'--threads {args.threads}: give 1 or more')
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

    from ..inference import PoseEstimator

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
            entry = _entry(found)
            if found.image is not None:
                entry['picture'] = f'pictures/{pictures[found.name]}'
                path = Path(args.out) / entry['picture']
                make_folder(path.parent)
                write_image(path, draw_poses(found.image, found.poses, args.threshold))
            books[0].add(entry)
            progress.step(len(found.poses))


def _entry(found: ImagePoses) -> dict:
    entry = dict(name=found.name, shape=found.shape, poses=[pose.to_dict() for pose in found.poses])
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
) -> None:
    """Poses of the videos that are left, each with its line in the first book."""
    lines = output_names(inputs.videos, '.jsonl', taken_by('lines', books))
    for name in names:
        path = Path(args.out) / 'videos' / lines[name]
        books[0].add(predict_video(name, path, estimator, boxes, args))
