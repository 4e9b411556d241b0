"""Outputs of a prediction: names, folders, COCO results, contact sheet, summary."""

import argparse
import contextlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, UserError
from ...imaging import images
from ...imaging.images import write_image
from ...imaging.poses import Pose
from ...imaging.sheet import contact_sheet
from ...imaging.skeleton import Skeleton
from ...inference import detectors, sources
from .journal import START, Content, is_start, read
from .shards import entry_of, journal_name

SHEET = 24  # images on the contact sheet
PROBLEMS_SHOWN = 10
JOURNAL = re.compile(r'poses(-\d+-of-\d+)?\.jsonl')
RECORDING = re.compile(r'camera-\d+(-\d+)?\.(jsonl|mp4)')
RESULTS = ('keypoints.json', 'images.json', 'sheet.jpg')
FOLDERS = ('pictures', 'videos')


def make_folder(path: Path) -> None:
    """Make a folder; a `UserError` if it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder '{path}' cannot be made: {error.strerror}") from error


def is_journal(path: Path) -> bool:
    """Return whether a file is a journal, by its name and first bytes."""
    if not JOURNAL.fullmatch(path.name) or not path.is_file():
        return False
    with open(path, 'rb') as file:
        return is_start(file.read(len(START)))


def check_out(out: Path, force: bool, is_camera: bool = False) -> None:
    """Refuse an `out` in which files that this command did not write would be in the way.

    In a folder with a journal, `RESULTS` and `FOLDERS` are this command's. In another one nothing
    of these names may exist, and with other files in it `force` is needed. A camera's recordings
    always get names that are free.

    Raises:
        UserError: see above; or `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out '{out}' is a file: give a folder")
    paths = [path for path in out.iterdir() if path.name[0] != '.'] if out.is_dir() else []
    if any(map(is_journal, paths)):
        return
    others = [path for path in paths if not RECORDING.fullmatch(path.name)]
    if others and not force:
        raise UserError(
            f"--out '{out}' holds files that are not of `hrformer predict`: choose another "
            'folder, or --force to write beside them'
        )
    taken = [path for path in others if path.name in (*RESULTS, *FOLDERS)]
    if taken and not is_camera:
        raise UserError(
            f"'{min(taken)}' is not of `hrformer predict`, which would write over it: choose "
            'another --out'
        )


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


def merge(
    out: Path,
    shards: int,
    settings: dict,
    inputs: sources.Inputs,
    ids: dict[str, int],
    skeleton: Skeleton,
    args: argparse.Namespace,
    stamps: Mapping[str, list[int] | None],
) -> dict[str, Path]:
    """When all images are done: COCO results and a contact sheet; returns what was written.

    Args:
        stamps: `parts.stamp` of each image.
    """
    names = list(inputs.images)
    paths = [out / journal_name(number, shards) for number in range(shards)]
    books = [read(path) if path.is_file() else Content() for path in paths]
    # With --force others may be left from before.
    books = [Content() if book.difference(settings) else book for book in books]
    entries = {}
    missing: Counter[int] = Counter()
    for number, name in enumerate(names):
        owner = number % shards
        entry = entry_of(name, [books[owner], *books], stamps[name])
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
        poses = _poses(entries[name], skeleton)
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
        poses = _poses(entries[name], skeleton)
        with contextlib.suppress(DataError):  # gone since
            yield images.read_image(name), poses, Path(name).name


def _poses(entry: dict, skeleton: Skeleton) -> list[Pose]:
    try:
        return [Pose.from_dict(values, skeleton) for values in entry['poses']]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the journal's line of '{entry['name']}' is damaged: delete it to do the image again, "
            'or --force to begin anew'
        ) from error


def _partial(path: Path) -> Path:
    # Shards that end at the same time both write.
    return path.with_name(f'.part-{os.getpid()}-{path.name}')


def _write_json(path: Path, content: list) -> None:
    partial = _partial(path)
    partial.write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')
    os.replace(partial, path)


def report(
    entries: list[dict],
    written: dict[str, Path],
    args: argparse.Namespace,
    shard: int = 0,
    shards: int = 1,
) -> int:
    """Print a summary and each problem; return the exit status."""
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
