"""Outputs of a prediction: names, folders, COCO results, contact sheet, summary."""

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
from ...inference import detectors
from ...io import remove_partials, replacing
from .arguments import Options
from .journal import START, Content, Stamp, is_start, read
from .shards import entry_of, journal_name

SHEET = 24  # images on the contact sheet
JOURNAL = re.compile(r'poses(-\d+-of-\d+)?\.jsonl')
RECORDING = re.compile(r'camera-\d+(-\d+)?\.(jsonl|mp4|jsonl\.part)')
RESULTS = ('keypoints.json', 'categories.json', 'images.json', 'sheet.jpg')
FOLDERS = ('pictures', 'videos')
MAX_STEM = 200  # bytes: numbers, suffixes and prefixes of temporary files are added


def make_folder(path: Path) -> None:
    """Create a folder.

    Raises:
        UserError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder '{path}' cannot be created: {error.strerror}") from error


def is_journal(path: Path) -> bool:
    """Return whether a file is a journal, by its name and first bytes."""
    if not JOURNAL.fullmatch(path.name) or not path.is_file():
        return False
    with open(path, 'rb') as file:
        return is_start(file.read(len(START)))


def check_out(out: Path, force: bool, is_camera: bool = False) -> None:
    """Check that no file of others is overwritten in the folder of results.

    In a folder with a journal, `RESULTS` and `FOLDERS` belong to this command. In any other folder
    they must not exist, and `force` is needed if it holds other files. Recordings of a camera get
    unused names.

    Raises:
        UserError: files of others would be overwritten, or `out` is a file.
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
    """Return a distinct path for the result of each input, relative to a folder of results.

    The common folder of the inputs is removed, and so are extensions where the names stay distinct.
    Long names are shortened.

    Args:
        names: paths of the inputs.
        suffix: extension of the results.
        taken: paths that inputs already have and keep.
    """
    taken = taken or {}
    paths = {name: os.path.abspath(name) for name in names}
    folders = {os.path.dirname(path) for path in paths.values()}
    start = len(os.path.join(os.path.commonpath(folders), '')) if folders else 0
    paths = {name: path[start:].replace(os.sep, '/') for name, path in paths.items()}
    stems = {name: os.path.splitext(path)[0] for name, path in paths.items()}
    counts, used, results = Counter(stems.values()), set(taken.values()), {}
    for name, path in paths.items():
        if name in taken:
            results[name] = taken[name]
            continue
        stem = _shortened(stems[name] if counts[stems[name]] == 1 else path)
        free = (f'{stem}{f"-{n}" if n > 1 else ""}{suffix}' for n in itertools.count(1))
        results[name] = next(candidate for candidate in free if candidate not in used)
        used.add(results[name])
    return results


def _shortened(path: str) -> str:
    folder, slash, name = path.rpartition('/')
    while len(os.fsencode(name)) > MAX_STEM:
        name = name[:-1]
    return folder + slash + name


def image_ids(names: Sequence[str], boxes) -> dict[str, int]:
    """Return the COCO id of each image: that of the file of boxes, or else 1, 2, ...

    Images that the file does not contain have no boxes and get ids that it does not use.

    Raises:
        UserError: two of the images have the same id in the file.
    """
    if not isinstance(boxes, detectors.CocoDetections):
        return {name: number for number, name in enumerate(names, start=1)}
    ids: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name in names:
        try:
            ids[name] = boxes.image_id(name)
        except DataError:  # reported when its boxes are looked up
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
    options: Options,
    settings: dict,
    ids: Mapping[str, int],
    skeleton: Skeleton,
    stamps: Mapping[str, Stamp],
) -> dict[str, Path]:
    """Write COCO results and a contact sheet if all images of all shards are done.

    Args:
        options: options of the command.
        settings: settings that the journals must have.
        ids: COCO id of each image, in the order of the inputs.
        skeleton: keypoints of the network.
        stamps: present stamp of each image.

    Returns:
        The written files by description.
    """
    out, shards, names = options.out, options.num_shards, list(ids)
    paths = [out / journal_name(number, shards) for number in range(shards)]
    journals = [read(path) if path.is_file() else Content() for path in paths]
    # After --force, journals of earlier runs may still exist.
    journals = [Content() if journal.difference(settings) else journal for journal in journals]
    entries = {
        name: entry_of(name, [journals[number % shards], *journals], stamps[name])
        for number, name in enumerate(names)
    }
    if missing := Counter(n % shards for n, name in enumerate(names) if entries[name] is None):
        parts = ', '.join(f'{shard}/{shards} ({missing[shard]})' for shard in sorted(missing))
        print(f'COCO results are written when all is done; parts with images left: {parts}')
    if missing or not names:
        return {}
    _write_results(out, entries, ids, skeleton)
    written = {
        'COCO results': out / 'keypoints.json',
        'keypoint names': out / 'categories.json',
        'image ids': out / 'images.json',
    }
    if options.pictures and (sheet := _sheet(names, entries, skeleton, out / 'sheet.jpg')):
        written['contact sheet'] = sheet
    return written


def _write_results(
    out: Path, entries: Mapping[str, dict], ids: Mapping[str, int], skeleton: Skeleton
) -> None:
    """Write `keypoints.json`, `categories.json` and `images.json`."""
    results, rows = [], []
    for name, entry in entries.items():
        results += [pose.to_coco(ids[name]) for pose in _poses(entry, skeleton)]
        height, width = entry['shape'] or (None, None)
        rows.append(dict(id=ids[name], file_name=name, height=height, width=width))
    _write_json(out / 'keypoints.json', results)
    _write_json(out / 'categories.json', [skeleton.category()])
    _write_json(out / 'images.json', rows)


def _sheet(names: list[str], entries: dict, skeleton: Skeleton, path: Path) -> Path | None:
    """Draw a contact sheet of evenly spread images with persons; None without such images."""
    names = [name for name in names if entries[name]['poses']]
    chosen = np.unique(np.linspace(0, len(names) - 1, SHEET).round().astype(int)) if names else ()
    tiles = _tiles([names[number] for number in chosen], entries, skeleton)
    first = next(tiles, None)
    if first is None:
        return None
    remove_partials(path.parent, path.name)
    write_image(path, contact_sheet(itertools.chain([first], tiles)))
    return path


def _tiles(
    names: list[str], entries: dict, skeleton: Skeleton
) -> Iterator[tuple[np.ndarray, list[Pose], str]]:
    for name in names:
        poses = _poses(entries[name], skeleton)
        with contextlib.suppress(DataError):  # deleted since
            yield images.read_image(name), poses, Path(name).name


def _poses(entry: dict, skeleton: Skeleton) -> list[Pose]:
    try:
        return [Pose.from_dict(values, skeleton) for values in entry['poses']]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the journal's line of '{entry['name']}' is damaged: delete it to do the image again, "
            'or --force to begin anew'
        ) from error


def _write_json(path: Path, content: list) -> None:
    remove_partials(path.parent, path.name)
    with replacing(path) as partial:
        Path(partial).write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')
