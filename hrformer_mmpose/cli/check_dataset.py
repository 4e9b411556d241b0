"""Check the data of a config before a long run: `tools/check_dataset.py`.

Config -> data sets, not loaded -> annotations and detections as arrays -> findings (`coco.checks`)
-> images found and, in full mode, decoded -> report and exit status.
"""

import argparse
import copy
import os
import os.path as osp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine import ProgressBar
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS, METRICS

from ..coco import annotations, checks, persons
from ..coco.annotations import Annotations
from ..datasets.coco import CocoDataset, sizes_of
from ..datasets.image_folder import ImageFolder
from ..datasets.mask_folder import MaskFolder
from ..errors import DataError, UserError
from ..imaging.headers import conversion_note
from ..imaging.images import decode
from ..zoo import merge_options, read_config
from .arguments import CfgOptions
from .config_checks import check, check_option_names

SPLITS = ('train', 'val', 'test')
NOTES_SHOWN = 5


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description="Check a config's annotations, detections and images; status 1 if a run would "
        'fail on them'
    )
    flags.add_argument('config', help='config file')
    flags.add_argument('--full', action='store_true', help='decode every used image')
    flags.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=list(SPLITS), help='data sets to check'
    )
    flags.add_argument('--all-notes', action='store_true', help='print all notes, not five a kind')
    flags.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, default={}, metavar='KEY=VALUE'
    )
    return flags


@dataclass
class Split:
    """Findings about one data set.

    Attributes:
        name: names of the splits that use it.
        counts: lines with numbers of images, persons and boxes.
        problems: findings that stop a run.
        notes: findings that do not, grouped by kind.
        images: paths of the images that a run reads.
    """

    name: str
    counts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)
    images: set[str] = field(default_factory=set)

    def note(self, lines: list[str]) -> None:
        """Add the notes of one kind."""
        if lines:
            self.notes.append(lines)


def run(args: argparse.Namespace) -> int:
    """Check and print; return the exit status."""
    cfg = read_config(args.config)
    check_option_names(cfg, args.cfg_options)
    merge_options(cfg, args.cfg_options)
    check(cfg, [split for split in args.splits if cfg.get(f'{split}_dataloader')])
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    checked: list[Split] = []
    for names, settings in _data_sets(cfg, args.splits):
        split = Split(' and '.join(names))
        print(f'{split.name}:', flush=True)
        try:
            _check(split, cfg, settings, names, args.full)
        except UserError as error:
            split.problems.append(str(error))
        _print(split, args.all_notes)
        checked.append(split)
    for other in checked[1:]:
        both = checked[0].images & other.images
        if both and 'train' in checked[0].name:
            print(f'note: {len(both)} images of {other.name} are also in {checked[0].name}')
    problems = sum(len(split.problems) for split in checked)
    mode = 'every image decoded' if args.full else 'images not decoded (--full does)'
    print(f'{problems or "no"} problem{"" if problems == 1 else "s"}; {mode}')
    return int(problems > 0)


def _data_sets(cfg: Config, splits: list[str]) -> list[tuple[list[str], dict]]:
    """Return names and settings of the distinct data sets, without wrappers."""
    data_sets: list[tuple[list[str], dict]] = []
    for name in splits:
        loader = cfg.get(f'{name}_dataloader')
        for settings in _inner(loader.dataset if loader else None):
            # Data sets that differ in their pipelines only are the same data.
            settings = copy.deepcopy({**settings, 'pipeline': []})
            names = next((names for names, other in data_sets if other == settings), None)
            if names is None:
                data_sets.append(([name], settings))
            else:
                names.append(name)
    if not data_sets:
        raise DataError(f'the config has no data loader for {", ".join(splits)}')
    return data_sets


def _inner(settings: dict | None) -> Iterator[dict]:
    if settings is None:
        return
    parts = settings.get('datasets') or [settings.get('dataset')]
    if parts == [None]:
        yield settings
    for part in parts:
        yield from _inner(part)


def _check(split: Split, cfg: Config, settings: dict, names: list[str], full: bool) -> None:
    data = DATASETS.build({**settings, 'lazy_init': True})
    if isinstance(data, ImageFolder | MaskFolder):
        _check_folder(split, data, full)
        return
    if not isinstance(data, BaseCocoStyleDataset):
        split.note([f'data sets of type {settings["type"]} are not checked'])
        return
    ann = annotations.read(data.ann_file)
    num_keypoints = data.metainfo['num_keypoints']
    folder = data.data_prefix['img']
    findings = checks.check_annotations(ann, num_keypoints)
    usable = checks.usable(findings, 'annotation', len(ann.id))
    used = persons.annotated(ann, folder, usable) if len(ann.id) else None
    split.counts.append(_annotation_counts(ann))
    if data.bbox_file:
        dets = annotations.read_detections(data.bbox_file)
        detection_findings = checks.check_detections(dets, ann)
        findings += detection_findings
        usable = checks.usable(detection_findings, 'detection', len(dets.image))
        used = persons.detected(dets, ann, folder, usable, num_keypoints)
        split.counts.append(_detection_counts(dets, ann))
    for finding in findings:
        lines = list(finding.lines())
        if finding.fatal:
            split.problems += lines
        else:
            split.note(lines)
    if used is None or not len(used):
        split.problems.append(f"'{data.bbox_file or data.ann_file}' holds no person to use")
        return
    if not data.bbox_file:
        split.counts.append(f'{len(used)} persons to use')
    split.problems += dict.fromkeys(_evaluator_problems(cfg, names, data.ann_file))
    split.images = set(used.img_paths())
    _check_images(split, ann, folder, full)
    if isinstance(data, CocoDataset) and not split.problems:
        data.full_init()  # raises any other error that a run would raise


def _check_folder(split: Split, data: ImageFolder | MaskFolder, full: bool) -> None:
    """Check images with classes or masks; raise any error that a run would raise."""
    data.full_init()
    infos = [data.get_data_info(index) for index in range(len(data))]
    classes = len(data.metainfo['classes'])
    split.counts.append(f"'{data.data_prefix['img']}': {len(infos)} images, {classes} classes")
    paths = [info[key] for info in infos for key in ('img_path', 'mask_path') if key in info]
    empty = [path for path in paths if not os.path.getsize(path)]
    split.problems += [f"image '{path}' is empty" for path in empty]
    split.images = {info['img_path'] for info in infos}
    if full:
        _decode(split, sorted(set(paths) - set(empty)))


def _annotation_counts(ann: Annotations) -> str:
    labelled = ann.labelled() > 0
    return (
        f"'{ann.path}': {len(ann.image_id)} images, {len(ann.id)} annotations: "
        f'{int((labelled & ~ann.iscrowd).sum())} persons with labelled keypoints, '
        f'{int((~labelled & ~ann.iscrowd).sum())} without, {int(ann.iscrowd.sum())} crowds'
    )


def _detection_counts(dets: annotations.Detections, ann: Annotations) -> str:
    person = dets.category_id == 1
    count = int(person.sum())
    scores = dets.score[person]
    scores = scores[np.isfinite(scores)]
    rest = ''
    if len(scores):
        rest = f', scores {scores.min():.3f} to {scores.max():.3f}'
    with_persons = np.unique(ann.image[~ann.iscrowd & (ann.labelled() > 0)])
    without = int((~np.isin(with_persons, dets.image[person])).sum())
    return (
        f"'{dets.path}': {count} person boxes on {len(np.unique(dets.image[person]))} images"
        f'{rest}; {len(dets.image) - count} of other categories; {without} of '
        f'{len(with_persons)} images with persons have no box'
    )


def _evaluator_problems(cfg: Config, names: list[str], ann_file: str) -> Iterator[str]:
    """Yield a line for each evaluator that cannot evaluate with the annotations of the data set."""
    for name in names:
        evaluators = cfg.get(f'{name}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            other = evaluator.get('ann_file')
            if other and osp.realpath(other) != osp.realpath(ann_file):
                yield f"{name}_evaluator compares with '{other}', the data set is of '{ann_file}'"
            elif evaluator['type'] == 'hrformer_mmpose.CocoMetric':
                yield from _build_error({**evaluator, 'ann_file': ann_file})


def _build_error(evaluator: dict) -> Iterator[str]:
    try:
        METRICS.build(evaluator)  # reads and checks the annotations
    except UserError as error:
        yield str(error)


def _check_images(split: Split, ann: Annotations, folder: str, full: bool) -> None:
    rows = {osp.join(folder, name): row for row, name in enumerate(ann.names())}
    sizes = sizes_of(list(rows))
    missing = [path for path in rows if path not in sizes]
    needed = [path for path in missing if path in split.images]
    empty = [path for path in sorted(split.images) if sizes.get(path) == 0]
    split.problems += [f"image '{path}' does not exist" for path in needed]
    split.problems += [f"image '{path}' is empty" for path in empty]
    if len(missing) > len(needed):
        count = len(missing) - len(needed)
        split.note([f"{count} images without persons are not in '{folder}' (not needed)"])
    existing = sorted(split.images - set(needed) - set(empty))
    split.counts.append(f"'{folder}': {len(existing)} of {len(split.images)} images with persons")
    if full:
        _decode(split, existing, rows, ann)


def _decode(
    split: Split,
    paths: list[str],
    rows: dict[str, int] | None = None,
    ann: Annotations | None = None,
) -> None:
    """Decode images and compare their sizes with the annotations.

    Args:
        split: the findings, to add to.
        paths: images to decode.
        rows: row of each image in the annotations.
        ann: annotations; None for data sets without sizes.
    """
    bar = ProgressBar(len(paths))
    forms: dict[str, list[str]] = {}
    # Decoding releases the GIL, so that threads run in parallel.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, (problem, form, shape) in zip(paths, pool.map(_inspect, paths), strict=True):
            if problem is None and ann is not None:
                problem = _size_problem(path, shape, rows[path], ann)
            if problem is not None:
                split.problems.append(problem)
            if form is not None and path in split.images:  # masks are grey by design
                forms.setdefault(form, []).append(f"image '{path}' {form}")
            bar.update()
    print()
    for lines in forms.values():
        split.note(lines)


def _size_problem(path: str, shape: tuple[int, int], row: int, ann: Annotations) -> str | None:
    expected = int(ann.height[row]), int(ann.width[row])
    if shape == expected:
        return None
    rotation = ': it is turned by its EXIF orientation' if shape == expected[::-1] else ''
    return (
        f"image '{path}' (id {ann.image_id[row]}) is {shape[1]} x {shape[0]}, "
        f'annotated as {expected[1]} x {expected[0]}{rotation}'
    )


def _inspect(path: str) -> tuple[str | None, str | None, tuple[int, int]]:
    """Return problem and unusual format of an image, if any, and its shape (height, width)."""
    try:
        data = Path(path).read_bytes()
        return None, conversion_note(data), decode(data, path).shape[:2]
    except OSError as error:
        return f"image '{path}' cannot be read: {error.strerror}", None, (0, 0)
    except DataError as error:
        return str(error), None, (0, 0)


def _print(split: Split, all_notes: bool) -> None:
    for line in split.counts:
        print(f'  {line}')
    for line in split.problems:
        print(f'  PROBLEM: {line}')
    for lines in split.notes:
        shown = lines if all_notes else lines[:NOTES_SHOWN]
        for line in shown:
            print(f'  note: {line}')
        if len(lines) > len(shown):
            print(f'  note: ... and {len(lines) - len(shown)} more of this kind (--all-notes)')
