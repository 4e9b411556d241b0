"""`hrformer predict`: poses on images, folders, videos or a camera.

Inputs in a fixed order -> those of this shard -> those that the journal does not know yet -> poses
(`runtime.estimator`) -> picture, then the journal's line. At the end, from the journals of all
shards: COCO results, the images' numbers, a contact sheet.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, UserError
from ..runtime import detectors, images, sources
from ..runtime.drawing import contact_sheet, draw_poses, write_image
from ..runtime.estimator import WHOLE_IMAGE, Estimator, ImagePoses, PoseRuntime
from ..runtime.networks import BACKENDS, SUFFIXES
from ..runtime.poses import Pose
from ..terminal import Progress
from .journal import Journal, read_entries

SHEET = 24  # images on the contact sheet
PROBLEMS_SHOWN = 10


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
    inputs = sources.collect(args.inputs)
    shard, shards = _shard(args.shard)
    out = Path(args.out)
    _check_out(out, args.force)
    estimator = _estimator(args)
    boxes = _boxes(args)
    settings = _settings(args, inputs, shards)
    if inputs.camera is not None:
        out.mkdir(parents=True, exist_ok=True)
        path = _free(out / f'camera-{inputs.camera}.mp4')
        entry = _video(inputs.camera, path, estimator, boxes, args)
        return _report([entry], {}, args)
    out.mkdir(parents=True, exist_ok=True)
    with Journal(out / _journal_name(shard, shards), settings, args.force) as journal:
        names = inputs.images[shard::shards]
        left = [name for name in names if not journal.done(name)]
        videos = [name for name in inputs.videos[shard::shards] if not journal.done(name)]
        if journal.entries and (left or videos):
            print(f"going on in '{out}': {len(names) - len(left)} of {len(names)} images are done")
        elif journal.entries:
            print(f"'{out}' already holds all of this (--force begins anew)")
        pictures = picture_names(inputs.images) if args.pictures else {}
        _images(left, len(names) - len(left), estimator, boxes, journal, pictures, args)
        for name in videos:
            path = out / 'videos' / f'{Path(name).name}.mp4'
            journal.add(_video(name, path, estimator, boxes, args))
        if not journal.finished or left or videos:
            journal.finish()
        entries = journal.entries
        complete = _merge(out, shards, inputs, boxes, args)
    return _report(list(entries.values()), complete, args)


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
    if args.checkpoint is None:
        raise UserError(f'--model {args.model} needs its weights: --checkpoint FILE')
    if args.backend is not None:
        raise UserError(f'--backend is for exported networks: {args.model} is a config')
    import torch

    from ..inference import PoseEstimator

    if args.threads:
        torch.set_num_threads(args.threads)
    return PoseEstimator(
        args.model, args.checkpoint, args.device, args.precision, args.flip, **common
    )


def _boxes(args: argparse.Namespace):
    if args.boxes == 'hog':
        print(
            "looking for people with OpenCV's HOG detector, which finds upright people only and "
            'misses many; --boxes takes a better one'
        )
    return detectors.make_detector(args.boxes, args.annotations, args.box_threshold)


def _settings(args: argparse.Namespace, inputs: sources.Inputs, shards: int) -> dict:
    """What the predictions depend on."""
    return dict(
        model=_fingerprint(args.model),
        checkpoint=args.checkpoint and _fingerprint(args.checkpoint),
        boxes=args.boxes if args.boxes in ('hog', WHOLE_IMAGE) else _fingerprint(args.boxes),
        box_threshold=args.box_threshold,
        precision=args.precision,
        flip=args.flip,
        backend=args.backend,
        pictures=args.pictures and args.threshold,
        shards=shards,
        images=len(inputs.images),
        videos=len(inputs.videos),
    )


def _fingerprint(name: str) -> str:
    """A file's name with its size, so that another file of that name is told from it."""
    path = name.split(':', 1)[-1] if name.startswith(('onnx:', 'torchvision:')) else name
    return f'{name} ({os.path.getsize(path)} bytes)' if os.path.isfile(path) else name


def _shard(text: str | None) -> tuple[int, int]:
    """Number of this part and of all parts, from --shard or from torchrun's environment."""
    if text is None:
        return int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    first, _, count = text.partition('/')
    if not (first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise UserError(f'--shard {text}: give I/N with I from 0 to N-1, e.g. 0/4')
    return int(first), int(count)


def _journal_name(shard: int, shards: int) -> str:
    return 'poses.jsonl' if shards == 1 else f'poses-{shard}-of-{shards}.jsonl'


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file")
    if force or not out.is_dir() or not any(out.iterdir()) or any(out.glob('poses*.jsonl')):
        return
    raise UserError(
        f"--out '{out}' holds files that are not of `hrformer predict`: choose another folder, or "
        '--force to write beside them'
    )


def picture_names(names: Iterable[str]) -> dict[str, str]:
    """Where the picture of each image goes, relative to the folder of pictures, all different."""
    names = list(names)
    parents = {os.path.abspath(os.path.dirname(name)) for name in names}
    root = os.path.commonpath(parents) if parents else ''
    relative = {name: Path(os.path.relpath(os.path.abspath(name), root)) for name in names}
    stems = [path.with_suffix('') for path in relative.values()]
    twice = (
        {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else ()
    )
    return {
        name: f'{path if path.with_suffix("") in twice else path.with_suffix("")}.jpg'
        for name, path in relative.items()
    }


def _images(
    names: list[str],
    done: int,
    estimator: Estimator,
    boxes,
    journal: Journal,
    pictures: dict[str, str],
    args: argparse.Namespace,
) -> None:
    """Poses of the images that are left, each with its picture and its line."""
    if not names:
        return
    folder = Path(args.out) / 'pictures'
    progress = Progress(done + len(names), 'images', done, shown=_shard(args.shard)[0] == 0)
    for found in estimator.stream(names, boxes, keep_images=args.pictures):
        if found.image is not None:
            path = folder / pictures[found.name]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, draw_poses(found.image, found.poses, args.threshold))
        journal.add(_entry(found))
        progress.step(len(found.poses))
    progress.close()


def _entry(found: ImagePoses) -> dict:
    entry = dict(name=found.name, shape=found.shape, poses=[pose.to_dict() for pose in found.poses])
    if found.problems:
        entry['problems'] = found.problems
    if found.failed:
        entry['failed'] = True
    return entry


def _video(
    source: str | int, path: Path, estimator: Estimator, boxes, args: argparse.Namespace
) -> dict:
    """Poses of a video: a drawn video and a line for each frame beside it; returns its entry."""
    name = str(source)
    if isinstance(boxes, dict | detectors.CocoDetections):
        raise UserError(f"--boxes {args.boxes}: a file of boxes is for images, not for '{name}'")
    entry = dict(name=name, kind='video', frames=0, persons=0)
    try:
        video = sources.Video(source)
    except DataError as error:
        return dict(entry, failed=True, problems=[str(error)])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.part-{path.name}')
    lines = path.with_suffix('.jsonl')
    writer = None
    if args.pictures:
        writer = cv2.VideoWriter(
            str(partial), cv2.VideoWriter_fourcc(*'mp4v'), video.fps, video.size
        )
        if not writer.isOpened():
            raise UserError(f"'{path}' cannot be written: OpenCV has no encoder for mp4 here")
    progress = Progress(video.frames, 'frames', shown=_shard(args.shard)[0] == 0)
    problems: list[str] = []
    with (
        open(f'{lines}.part', 'w', encoding='utf-8') as file,
        contextlib.suppress(KeyboardInterrupt if isinstance(source, int) else ()),
    ):
        for found in estimator.stream(video, boxes, keep_images=True):
            row = dict(frame=entry['frames'], poses=[pose.to_dict() for pose in found.poses])
            file.write(json.dumps(row, separators=(',', ':')) + '\n')
            entry['frames'] += 1
            entry['persons'] += len(found.poses)
            problems += found.problems
            if writer is not None or args.show:
                drawn = draw_poses(found.image, found.poses, args.threshold)
                if writer is not None:
                    writer.write(drawn)
                if args.show and not _shown(drawn):
                    break
            progress.step(len(found.poses))
    progress.close()
    if writer is not None:
        writer.release()
        os.replace(partial, path)
    os.replace(f'{lines}.part', lines)
    if (missing := video.cut_short()) and not args.show:
        problems.append(missing)
    return dict(entry, problems=problems) if problems else entry


def _shown(picture: np.ndarray) -> bool:
    """Show a picture; False when the user has had enough."""
    try:
        cv2.imshow('hrformer (q ends)', picture)
        return cv2.waitKey(1) & 0xFF != ord('q')
    except cv2.error as error:
        raise UserError('--show: this OpenCV has no windows (opencv-python has)') from error


def _free(path: Path) -> Path:
    """`path`, or the first numbered one that does not exist."""
    numbers = (path.with_stem(f'{path.stem}-{number}') for number in range(2, 10_000))
    return path if not path.exists() else next(other for other in numbers if not other.exists())


def image_ids(names: list[str], boxes) -> dict[str, int]:
    """COCO's number of each image: as the file of boxes knows it, else 1, 2, ..."""
    if isinstance(boxes, detectors.CocoDetections):
        with contextlib.suppress(DataError):  # an image that the file does not know
            return {name: boxes.image_id(name) for name in names}
    return {name: number for number, name in enumerate(names, start=1)}


def _merge(out: Path, shards: int, inputs: sources.Inputs, boxes, args: argparse.Namespace) -> dict:
    """When all shards are done: COCO results and a contact sheet; returns what was written."""
    entries: dict[str, dict] = {}
    for number in range(shards):
        path = out / _journal_name(number, shards)
        if not path.is_file():
            return {}
        part, finished = read_entries(path)
        if not finished:
            return {}
        entries.update(part)
    names = list(inputs.images)
    if not names or any(name not in entries for name in names):
        return {}
    ids = image_ids(names, boxes)
    results, rows = [], []
    for name in names:
        entry = entries[name]
        poses = [Pose.from_dict(values) for values in entry['poses']]
        results += [pose.to_coco(ids[name]) for pose in poses]
        height, width = entry['shape'] or (None, None)
        rows.append(dict(id=ids[name], file_name=name, height=height, width=width))
    _write_json(out / 'keypoints.json', results)
    _write_json(out / 'images.json', rows)
    written = {'COCO results': out / 'keypoints.json', "the images' numbers": out / 'images.json'}
    if args.pictures and (sheet := _sheet(names, entries, out / 'sheet.jpg', args.threshold)):
        written['contact sheet'] = sheet
    return written


def _sheet(names: list[str], entries: dict, path: Path, threshold: float) -> Path | None:
    """A contact sheet of images with persons, evenly spread."""
    names = [name for name in names if entries[name]['poses']]
    if not names:
        return None
    chosen = np.unique(np.linspace(0, len(names) - 1, SHEET).round().astype(int))
    contact_sheet(_tiles([names[i] for i in chosen], entries), path)
    return path


def _tiles(names: list[str], entries: dict) -> Iterator[tuple[np.ndarray, list[Pose], str]]:
    for name in names:
        poses = [Pose.from_dict(values) for values in entries[name]['poses']]
        people = f'{len(poses)} person{"" if len(poses) == 1 else "s"}'
        yield images.read_image(name), poses, f'{Path(name).name}, {people}'


def _write_json(path: Path, content: list) -> None:
    partial = path.with_name(f'.part-{path.name}')
    partial.write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')
    os.replace(partial, path)


def _report(entries: list[dict], written: dict, args: argparse.Namespace) -> int:
    """What came of it, and each problem; returns the exit status."""
    problems = [line for entry in entries for line in entry.get('problems', ())]
    failed = sum(bool(entry.get('failed')) for entry in entries)
    videos = [entry for entry in entries if entry.get('kind') == 'video']
    stills = [entry for entry in entries if entry.get('kind') != 'video']
    persons = sum(len(entry['poses']) for entry in stills)
    if stills:
        print(f'{len(stills)} images, {persons} persons')
    for entry in videos:
        print(f"'{entry['name']}': {entry['frames']} frames, {entry['persons']} persons")
    for what, path in written.items():
        print(f'{what}: {path}')
    if not problems:
        return 0
    for line in problems[:PROBLEMS_SHOWN]:
        print(f'skipped: {line}')
    if len(problems) > PROBLEMS_SHOWN:
        print(f"and {len(problems) - PROBLEMS_SHOWN} more, in '{args.out}'")
    print(f'{len(problems)} problem{"" if len(problems) == 1 else "s"}, {failed} files not used')
    return 1
