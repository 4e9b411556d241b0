"""`hrformer predict`: poses on images, folders, videos or a camera.

Inputs in a fixed order -> those of this shard -> those that no journal knows yet -> poses
(`runtime.estimator`) -> picture, then the journal's line. At the end, from the journals of all
shards: COCO results, the images' numbers, a contact sheet.

Files may be added to the inputs between runs. The share of a shard shifts then, so that each run
looks into the journals of all shards for what is done, and results are written as soon as all
images of the inputs are found there.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, UserError
from ..runtime import detectors, images, sources
from ..runtime.drawing import contact_sheet, draw_poses, write_image
from ..runtime.estimator import WHOLE_IMAGE, Estimator, ImagePoses, PoseRuntime
from ..runtime.networks import BACKENDS, SUFFIXES
from ..runtime.poses import Pose, Skeleton
from ..terminal import INTERRUPTED, Progress
from .journal import ADVICE, Content, Journal, read

SHEET = 24  # images on the contact sheet
PROBLEMS_SHOWN = 10
JOURNAL = re.compile(r'poses(-\d+-of-\d+)?\.jsonl')
RECORDING = re.compile(r'camera-\d+.*')
RESULTS = ('keypoints.json', 'images.json', 'sheet.jpg')


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
    shard, shards = _shard(args.shard)
    out = Path(args.out)
    inputs = sources.collect(args.inputs, out)
    _check_out(out, args.force)
    moving = inputs.videos if inputs.camera is None else (f'camera {inputs.camera}',)
    if moving and args.boxes.lower().endswith('.json'):
        raise UserError(f"--boxes {args.boxes}: a file of boxes is for images, not '{moving[0]}'")
    boxes = _boxes(args)
    ids = image_ids(inputs.images, boxes)
    settings = _settings(args)
    _make_folder(out)
    if inputs.camera is not None:
        lines = _free(out / f'camera-{inputs.camera}.jsonl')
        return _report([_video(inputs.camera, lines, _estimator(args), boxes, args)], {}, args)
    stale = args.force and _is_ours(out)
    names, videos = inputs.images[shard::shards], inputs.videos[shard::shards]
    with Journal(out / _journal_name(shard, shards), settings, args.force) as journal:
        for name in RESULTS if stale else ():
            (out / name).unlink(missing_ok=True)
        books = [journal, *([] if args.force else _others(out, shard, shards, settings))]
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
        entries = [_entry_of(name, books) for name in (*names, *videos)]
    written = _merge(out, shards, settings, inputs, ids, estimator.network.skeleton, args)
    return _report(entries, written, args, shard, shards)


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


def _settings(args: argparse.Namespace) -> dict:
    """What the predictions depend on, by the names of the flags."""
    return dict(
        model=_fingerprint(args.model),
        checkpoint=args.checkpoint and _fingerprint(args.checkpoint),
        boxes=args.boxes if args.boxes in ('hog', WHOLE_IMAGE) else _fingerprint(args.boxes),
        annotations=args.annotations and _fingerprint(args.annotations),
        box_threshold=args.box_threshold,
        precision=args.precision,
        flip=args.flip,
        backend=args.backend,
        pictures=args.pictures,
        threshold=args.threshold if args.pictures else None,
    )


def _fingerprint(name: str) -> str:
    """A file's name with what tells another file of that name from it.

    Networks of one kind have equal sizes, so that it takes the content.
    """
    path = Path(name.split(':', 1)[-1] if name.startswith(('onnx:', 'torchvision:')) else name)
    digest = hashlib.sha256()
    # OpenVINO has the weights in a file beside the .xml.
    found = [part for part in (path, path.with_suffix('.bin')) if part.is_file()]
    if path not in found:
        return name
    for part in found if path.suffix.lower() == '.xml' else [path]:
        with open(part, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f'{name} (sha256 {digest.hexdigest()[:12]})'


def _shard(text: str | None) -> tuple[int, int]:
    """Number of this part and of all parts, from --shard or from torchrun's environment."""
    given = f'--shard {text}'
    if text is None:
        if 'WORLD_SIZE' not in os.environ:
            return 0, 1
        text = f'{os.environ.get("RANK", 0)}/{os.environ["WORLD_SIZE"]}'
        given = f'RANK/WORLD_SIZE of the environment are {text}'
    first, _, count = text.partition('/')
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise UserError(f'{given}: give I/N with I from 0 to N-1, e.g. 0/4')
    return int(first), int(count)


def _journal_name(shard: int, shards: int) -> str:
    return 'poses.jsonl' if shards == 1 else f'poses-{shard}-of-{shards}.jsonl'


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder '{path}' cannot be made: {error.strerror}") from error


def _is_ours(out: Path) -> bool:
    """Whether a folder holds what this command writes."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    return any(JOURNAL.fullmatch(name) or RECORDING.fullmatch(name) for name in names)


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file: give a folder")
    if force or not out.is_dir() or _is_ours(out):
        return
    if any(not path.name.startswith('.') for path in out.iterdir()):
        raise UserError(
            f"--out '{out}' holds files that are not of `hrformer predict`: choose another "
            'folder, or --force to write beside them'
        )


def _others(out: Path, shard: int, shards: int, settings: dict) -> list[Content]:
    """The journals of the other shards.

    Raises:
        UserError: one was made with other settings.
    """
    found = []
    for number in range(shards):
        path = out / _journal_name(number, shards)
        if number == shard or not path.is_file():
            continue
        content = read(path)
        if content.entries and (difference := content.difference(settings)):
            raise UserError(f"'{path}' holds predictions made with {difference}: {ADVICE}")
        found.append(content)
    return found


def _entry_of(name: str, books: Sequence[Content | Journal]) -> dict | None:
    """What the journals know of a file: from the first that was able to use it, if any was."""
    found = [book.entries[name] for book in books if name in book.entries]
    return next((entry for entry in found if not entry.get('failed')), found[0] if found else None)


def output_names(
    names: Iterable[str], suffix: str, taken: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A path for the result of each input, relative to a folder of results, all different.

    The folders that the inputs have in common are left out, and their extensions where that leaves
    the names different.

    Args:
        names: paths. suffix: of the results. taken: paths that inputs already have; they keep them.
    """
    taken = taken or {}
    paths = {name: os.path.abspath(name) for name in names}
    folders = {os.path.dirname(path) for path in paths.values()}
    start = len(os.path.join(os.path.commonpath(folders), '')) if folders else 0
    paths = {name: path[start:].replace(os.sep, '/') for name, path in paths.items()}
    stems = {name: os.path.splitext(path)[0] for name, path in paths.items()}
    counts, used, found = Counter(stems.values()), set(taken.values()), {}
    for name, path in paths.items():
        if name in taken:
            found[name] = taken[name]
            continue
        stem = stems[name] if counts[stems[name]] == 1 else path
        free = (f'{stem}{f"-{n}" if n > 1 else ""}{suffix}' for n in itertools.count(1))
        found[name] = next(candidate for candidate in free if candidate not in used)
        used.add(found[name])
    return found


def _taken(key: str, books: Sequence[Content | Journal]) -> dict[str, str]:
    """The results, under `key` of their entries, that inputs already have."""
    entries = [item for book in books for item in book.entries.items()]
    return {name: entry[key].partition('/')[2] for name, entry in entries if key in entry}


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
    shard, shards = _shard(args.shard)
    total = len(inputs.images[shard::shards])
    pictures = {}
    if args.pictures:
        pictures = output_names(inputs.images, '.jpg', _taken('picture', books))
    with Progress(total, 'images', total - len(names), shown=shard == 0) as progress:
        for found in estimator.stream(names, boxes, keep_images=args.pictures):
            entry = _entry(found)
            if found.image is not None:
                entry['picture'] = f'pictures/{pictures[found.name]}'
                path = Path(args.out) / entry['picture']
                _make_folder(path.parent)
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
    lines = output_names(inputs.videos, '.jsonl', _taken('lines', books))
    for name in names:
        path = Path(args.out) / 'videos' / lines[name]
        books[0].add(_video(name, path, estimator, boxes, args))


def _video(
    source: str | int, lines: Path, estimator: Estimator, boxes, args: argparse.Namespace
) -> dict:
    """Poses of a video or a camera; returns its entry.

    Args:
        lines: where to write a line for each frame; the drawn video goes beside it.
    """
    is_camera = isinstance(source, int)
    entry = dict(name=str(source), kind='video', frames=0, persons=0)
    try:
        video = sources.Video(source)
    except DataError as error:
        return dict(entry, failed=True, problems=[str(error)])
    entry['name'] = video.name
    _make_folder(lines.parent)
    drawing = args.pictures or args.show
    problems: list[str] = []
    frames = estimator.stream(video, boxes, keep_images=drawing, live=is_camera)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_Writer(lines.with_suffix('.mp4'), video.fps))
        rows = stack.enter_context(open(f'{lines}.part', 'w', encoding='utf-8'))
        shown = _shard(args.shard)[0] == 0
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
    if not is_camera and not entry.get('failed') and (missing := video.cut_short()):
        problems.append(missing)
    if entry['frames'] == 0:
        os.remove(f'{lines}.part')
        return dict(entry, failed=True, problems=problems or [f"'{video.name}' gave no frame"])
    writer.keep()
    os.replace(f'{lines}.part', lines)
    entry['lines'] = lines.relative_to(args.out).as_posix()
    return dict(entry, problems=problems) if problems else entry


class _Writer:
    """A drawn video, begun with its first frame, under another name until `keep`.

    Args:
        path: `.mp4`. fps: frames a second.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self._fps = path, fps
        self._partial = path.with_name(f'.part-{path.name}')
        self._writer = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) BGR uint8."""
        if self._writer is None:
            # By the frame, not by what the file says of it: the video may be turned on reading.
            size = frame.shape[1::-1]
            code = cv2.VideoWriter_fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), code, self._fps, size)
            if not self._writer.isOpened():
                raise UserError(
                    f"'{self.path}' cannot be written: OpenCV has no encoder for mp4 here "
                    '(--no-pictures goes without)'
                )
        self._writer.write(frame)

    def keep(self) -> None:
        """After the end: give the file its name."""
        if self._writer is not None:
            os.replace(self._partial, self.path)

    def __enter__(self) -> '_Writer':
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


def _free(lines: Path) -> Path:
    """`lines`, or the first numbered path of which neither lines nor a drawn video exist."""
    numbered = (lines.with_stem(f'{lines.stem}-{number}') for number in itertools.count(2))
    return next(
        path
        for path in itertools.chain([lines], numbered)
        if not path.exists() and not path.with_suffix('.mp4').exists()
    )


def image_ids(names: Sequence[str], boxes) -> dict[str, int]:
    """COCO's number of each image: as the file of boxes knows it, else 1, 2, ...

    Images that the file does not know have no boxes; they get numbers that it does not use.

    Raises:
        UserError: the file has one number for two of the images.
    """
    if not isinstance(boxes, detectors.CocoDetections):
        return {name: number for number, name in enumerate(names, start=1)}
    ids: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name in names:
        try:
            ids[name] = boxes.image_id(name)
        except DataError:  # told when its boxes are looked up
            continue
        other = owners.setdefault(ids[name], name)
        if other != name:
            raise UserError(
                f"'{other}' and '{name}' are both image {ids[name]} of '{boxes.path}': predict "
                'them into different folders'
            )
    free = itertools.count(max(owners, default=0) + 1)
    return {name: ids[name] if name in ids else next(free) for name in names}


def _merge(
    out: Path,
    shards: int,
    settings: dict,
    inputs: sources.Inputs,
    ids: dict[str, int],
    skeleton: Skeleton,
    args: argparse.Namespace,
) -> dict[str, Path]:
    """When all images are done: COCO results and a contact sheet; returns what was written."""
    names = list(inputs.images)
    paths = [out / _journal_name(number, shards) for number in range(shards)]
    books = [read(path) if path.is_file() else Content() for path in paths]
    # With --force others may be left from before.
    books = [Content() if book.difference(settings) else book for book in books]
    entries = {}
    missing: Counter[int] = Counter()
    for number, name in enumerate(names):
        owner = number % shards
        entry = _entry_of(name, [books[owner], *books])
        if entry is None:
            missing[owner] += 1
        entries[name] = entry
    if missing:
        parts = ', '.join(f'{shard}/{shards} ({missing[shard]})' for shard in sorted(missing))
        print(f'COCO results are written when all is done; images are left to the parts {parts}')
    if missing or not names:
        return {}
    results, rows = [], []
    for name in names:
        poses = [Pose.from_dict(values, skeleton) for values in entries[name]['poses']]
        results += [pose.to_coco(ids[name]) for pose in poses]
        height, width = entries[name]['shape'] or (None, None)
        rows.append(dict(id=ids[name], file_name=name, height=height, width=width))
    _write_json(out / 'keypoints.json', results)
    _write_json(out / 'images.json', rows)
    written = {'COCO results': out / 'keypoints.json', "the images' numbers": out / 'images.json'}
    if args.pictures and (sheet := _sheet(names, entries, skeleton, out / 'sheet.jpg')):
        written['contact sheet'] = sheet
    return written


def _sheet(names: list[str], entries: dict, skeleton: Skeleton, path: Path) -> Path | None:
    """A contact sheet of images with persons, evenly spread; None if there is none."""
    names = [name for name in names if entries[name]['poses']]
    chosen = np.unique(np.linspace(0, len(names) - 1, SHEET).round().astype(int)) if names else ()
    tiles = _tiles([names[number] for number in chosen], entries, skeleton)
    first = next(tiles, None)
    if first is None:
        return None
    partial = _partial(path)
    write_image(partial, contact_sheet(itertools.chain([first], tiles)))
    os.replace(partial, path)
    return path


def _tiles(
    names: list[str], entries: dict, skeleton: Skeleton
) -> Iterator[tuple[np.ndarray, list[Pose], str]]:
    for name in names:
        poses = [Pose.from_dict(values, skeleton) for values in entries[name]['poses']]
        with contextlib.suppress(DataError):  # gone since
            yield images.read_image(name), poses, Path(name).name


def _partial(path: Path) -> Path:
    # Shards that end at the same time both write.
    return path.with_name(f'.part-{os.getpid()}-{path.name}')


def _write_json(path: Path, content: list) -> None:
    partial = _partial(path)
    partial.write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')
    os.replace(partial, path)


def _report(
    entries: list[dict],
    written: dict[str, Path],
    args: argparse.Namespace,
    shard: int = 0,
    shards: int = 1,
) -> int:
    """What came of it, and each problem; returns the exit status."""
    problems = [line for entry in entries for line in entry.get('problems', ())]
    failed = sum(bool(entry.get('failed')) for entry in entries)
    videos = [entry for entry in entries if entry.get('kind') == 'video']
    stills = [entry for entry in entries if entry.get('kind') != 'video']
    persons = sum(len(entry['poses']) for entry in stills)
    part = f'part {shard}/{shards}: ' if shards > 1 else ''
    if stills:
        print(f'{part}{_count(len(stills), "image")}, {_count(persons, "person")}')
    for entry in videos:
        what = f'{_count(entry["frames"], "frame")}, {_count(entry["persons"], "person")}'
        where = ''
        if 'lines' in entry:
            lines = Path(args.out) / entry['lines']
            drawn = lines.with_suffix('.mp4')
            where = f': {drawn}, {lines.name}' if drawn.is_file() else f': {lines}'
        print(f"{part}'{entry['name']}', {what}{where}")
    if any('picture' in entry for entry in stills):
        print(f'pictures: {Path(args.out) / "pictures"}')
    for what, path in written.items():
        print(f'{what}: {path}')
    if not problems:
        return 0
    for line in problems[:PROBLEMS_SHOWN]:
        print(f'problem: {line}')
    if len(problems) > PROBLEMS_SHOWN:
        print(f"... and {len(problems) - PROBLEMS_SHOWN} more, in the .jsonl files of '{args.out}'")
    unused = f'{failed} of {_count(len(entries), "file")} could not be used'
    print(f'{_count(len(problems), "problem")}; {unused}')
    return 1


def _count(number: int, what: str) -> str:
    return f'{number} {what}{"" if number == 1 else "s"}'
