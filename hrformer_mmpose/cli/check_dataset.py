"""Check the data of a config before a long run: `tools/check_dataset.py`.

Config -> data sets, not loaded -> annotations and detections as arrays -> findings (`coco.checks`)
-> images found and, in full mode, decoded -> report and exit status.
"""

import argparse
import copy
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS, METRICS

from ..coco import annotations, checks, persons
from ..datasets.coco import CocoDataset
from ..datasets.image_folder import ImageFolder
from ..datasets.mask_folder import MaskFolder
from ..datasets.mpii import MpiiDataset
from ..errors import DataError, UserError
from ..zoo import merge_options, read_config
from .arguments import CfgOptions
from .config_checks import check
from .dataset_findings import Split, annotation_counts, detection_counts, print_findings
from .dataset_images import check_folder, check_images, check_samples
from .key_checks import check_option_names
from .keypoint_checks import as_list, is_own_metric

SPLITS = ('train', 'val', 'test')
# Of MMPose's own classes that read more than COCO's fields.
MMPOSE_LAYOUTS = dict(
    CocoWholeBodyDataset='coco_wholebody', CocoWholeBodyHandDataset='coco_wholebody_hand'
)


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
        print_findings(split, args.all_notes)
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
        check_folder(split, data, full)
        return
    if isinstance(data, MpiiDataset):
        check_samples(split, data, full)
        return
    if not isinstance(data, BaseCocoStyleDataset):
        split.note([f'data sets of type {settings["type"]} are not checked'])
        return
    split.skips = getattr(data, 'on_error', 'raise') == 'skip'
    layout = getattr(data, 'layout', MMPOSE_LAYOUTS.get(type(data).__name__, 'coco'))
    ann = annotations.read(data.ann_file, layout)
    folder = data.data_prefix['img']
    used = _used_persons(split, data, ann)
    if used is None or not len(used):
        split.problems.append(f"'{data.bbox_file or data.ann_file}' holds no person to use")
        return
    if not data.bbox_file:
        split.counts.append(f'{len(used)} persons to use')
    split.problems += dict.fromkeys(_evaluator_problems(cfg, names, data.ann_file))
    split.images = set(used.img_paths())
    check_images(split, ann, folder, full)
    if isinstance(data, CocoDataset) and not split.problems:
        data.full_init()  # raises any other error that a run would raise


def _used_persons(
    split: Split, data: BaseCocoStyleDataset, ann: annotations.Annotations
) -> persons.Persons | None:
    """Return the persons that a run uses; add numbers and findings of annotations and boxes."""
    folder, num_keypoints = data.data_prefix['img'], data.metainfo['num_keypoints']
    findings = checks.check_annotations(ann, num_keypoints)
    usable = checks.usable(findings, 'annotation', len(ann.id))
    used = persons.annotated(ann, folder, usable) if len(ann.id) else None
    split.counts.append(annotation_counts(ann))
    if data.bbox_file:
        dets = annotations.read_detections(data.bbox_file)
        detection_findings = checks.check_detections(dets, ann)
        findings += detection_findings
        usable = checks.usable(detection_findings, 'detection', len(dets.image))
        used = persons.detected(dets, ann, folder, usable, num_keypoints)
        split.counts.append(detection_counts(dets, ann))
    for finding in findings:
        # A run with detections takes ids and sizes of images from the annotations, no persons.
        is_used = finding.kind == 'detection' or not data.bbox_file
        add = split.unusable if finding.fatal and is_used else split.note
        add(list(finding.lines()))
    return used


def _evaluator_problems(cfg: Config, names: list[str], ann_file: str) -> Iterator[str]:
    """Yield a line for each evaluator that cannot evaluate with the annotations of the data set."""
    for name in names:
        for evaluator in as_list(cfg.get(f'{name}_evaluator') or []):
            other = evaluator.get('ann_file')
            if other and osp.realpath(other) != osp.realpath(ann_file):
                yield f"{name}_evaluator compares with '{other}', the data set is of '{ann_file}'"
            elif is_own_metric(evaluator):
                yield from _build_error({**evaluator, 'ann_file': ann_file})


def _build_error(evaluator: dict) -> Iterator[str]:
    try:
        METRICS.build(evaluator)  # reads and checks the annotations
    except UserError as error:
        yield str(error)
