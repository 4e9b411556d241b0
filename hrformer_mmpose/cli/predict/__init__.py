"""`hrformer predict`: poses on images, folders, videos or a camera.

Inputs in a fixed order -> inputs of this shard -> inputs that no journal has as finished -> poses
(`inference.estimator`) -> picture, then the line of the journal. At the end, from the journals of
all shards: COCO results, ids of the images, a contact sheet.

Files may be added to the inputs between runs, which moves inputs to other shards. Each run
therefore reads the journals of all shards, and results are written as soon as all images are in
them.
"""

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...imaging.drawing import draw_poses
from ...imaging.images import write_image
from ...inference import detectors, sources
from ...inference.estimator import Estimator, ImagePoses, PoseRuntime
from ...inference.networks import SUFFIXES
from ...inference.videos import source_name
from ...io import DISK_ERRORS, remove_partials
from ...zoo import CHECKPOINTS
from ...zoo import find as find_config
from ..terminal import INTERRUPTED, Progress, check_display
from .arguments import Options, parser, read_options
from .journal import Content, Journal, Stamp
from .outputs import RESULTS, check_out, image_ids, make_folder, merge, output_names
from .recording import free_path
from .shards import (
    check_paths,
    entry_of,
    is_pretrained,
    journal_name,
    other_journals,
    results_of,
    settings_of,
    stamp,
)
from .summary import report
from .videos import predict_video

__all__ = ['parser', 'run']


def run(args: argparse.Namespace) -> int:
    """Predict.

    Returns:
        The exit status: 1 if an image, a box or a video could not be used.
    """
    options = read_options(args)
    inputs = sources.collect(options.inputs, options.out)
    check_out(options.out, options.force, inputs.camera is not None)
    if options.show:
        check_display()
    check_model(options)
    moving = inputs.videos if inputs.camera is None else (source_name(inputs.camera),)
    if moving and options.boxes.lower().endswith('.json'):
        raise UserError(
            f"--boxes {options.boxes}: a file of boxes is for images, not '{moving[0]}'"
        )
    if options.shard == 0 and (line := inputs.skipped_line()):
        print(line)
    boxes = detectors.make_detector(options.boxes, options.annotations, options.box_threshold)
    if isinstance(boxes, detectors.CocoDetections):
        boxes.check_images(inputs.images)
    ids = image_ids(inputs.images, boxes)
    settings = settings_of(options)
    make_folder(options.out)
    if inputs.camera is None:
        return _predict_files(options, inputs, boxes, ids, settings)
    lines = free_path(options.out / f'camera-{inputs.camera}.jsonl')
    entry = predict_video(inputs.camera, lines, open_estimator(options), boxes, options, {})
    return report([entry], {}, options)


def _predict_files(
    options: Options, inputs: sources.Inputs, boxes, ids: Mapping[str, int], settings: dict
) -> int:
    """Predict this shard's images and videos; return the exit status."""
    shard, num_shards, out = options.shard, options.num_shards, options.out
    images, videos = inputs.images[shard::num_shards], inputs.videos[shard::num_shards]
    stamps = {name: stamp(name) for name in (*inputs.images, *inputs.videos)}
    with Journal(out / journal_name(shard, num_shards), settings, options.force) as journal:
        for name in RESULTS if options.force else ():
            (out / name).unlink(missing_ok=True)
        journals = [journal, *([] if options.force else other_journals(options, settings))]
        check_paths(stamps, journals)
        images_left, videos_left = (
            [name for name in names if not any(j.done(name, stamps[name]) for j in journals)]
            for names in (images, videos)
        )
        _print_progress_so_far(out, [*images, *videos], [*images_left, *videos_left], journals)
        estimator = open_estimator(options)
        prediction = _Prediction(options, inputs, estimator, boxes, journals, stamps)
        try:
            prediction.predict_images(images_left)
            prediction.predict_videos(videos_left)
        except KeyboardInterrupt:
            print('interrupted: the same command continues from here', file=sys.stderr)
            return INTERRUPTED
        journal.finish()
        entries = [entry_of(name, journals, stamps[name]) for name in (*images, *videos)]
    written = merge(options, settings, ids, estimator.network.skeleton, stamps)
    _print_left_out(out, journals, stamps)
    return report(entries, written, options)


def _print_progress_so_far(
    out: Path, names: list[str], left: list[str], journals: Sequence[Content]
) -> None:
    done = len(names) - len(left)
    if names and not left:
        print(f"'{out}' already holds all of this (--force begins anew)")
    elif done:
        print(f"continuing in '{out}': {done} of {len(names)} files are done")
    changed = [name for name in left if any(journal.done(name) for journal in journals)]
    if changed:
        subject = f'{len(changed)} files have' if changed[1:] else f"'{changed[0]}' has"
        print(f'{subject} changed since the last run: predicted again')


def _print_left_out(out: Path, journals: Sequence[Content], inputs: Collection[str]) -> None:
    """Report files of earlier runs in the folder that are not among the inputs of this one."""
    names = dict.fromkeys(name for journal in journals for name in journal.entries)
    earlier = [name for name in names if name not in inputs]
    if earlier:
        files = f"{len(earlier)} files, e.g. '{earlier[0]}'" if earlier[1:] else f"'{earlier[0]}'"
        print(
            f"'{out}' also holds earlier results of {files}: keypoints.json is of the inputs given "
            'now; give those again, too, for one file of all'
        )


def check_model(options: Options) -> None:
    """Check that the network exists and that the options fit its kind, without loading it.

    Raises:
        UserError: it does not, or they do not.
    """
    model, suffix = options.model, Path(options.model).suffix.lower()
    if suffix in SUFFIXES:
        _check_flags_of_exported(options)
        if not Path(model).is_file():
            raise UserError(f"network '{model}' does not exist")
        return
    if suffix in CHECKPOINTS:
        raise UserError(
            f'--model {model} is a checkpoint: give it as --checkpoint, and its config as --model'
        )
    is_folder = is_pretrained(model)
    if not is_folder:
        find_config(model)
    if options.checkpoint is None and not is_folder:
        raise UserError(f'--model {model} needs its weights: --checkpoint FILE')
    if options.checkpoint is not None and is_folder:
        raise UserError(f'--model {model} has its own weights: leave --checkpoint out')
    if options.backend is not None:
        raise UserError(f'--backend is for exported networks: {model} is none')


def open_estimator(options: Options) -> Estimator:
    """Load the network, exported or of a config.

    Raises:
        UserError: options do not fit the kind of network, or it cannot be loaded.
    """
    common = dict(
        batch_size=options.batch_size, box_threshold=options.box_threshold or 0.0, on_error='skip'
    )
    check_model(options)
    if Path(options.model).suffix.lower() in SUFFIXES:
        exported = options.model, options.backend, options.threads
        return PoseRuntime(*exported, device=options.device, **common)
    import torch

    from ...inference.torch_network import PoseEstimator

    if options.threads:
        torch.set_num_threads(options.threads)
    device = options.device
    if device is None and torch.cuda.is_available():  # a GPU for each local process
        device = f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    common.update(device=device, precision=options.precision, flip_test=options.flip)
    if is_pretrained(options.model):
        return PoseEstimator.from_pretrained(options.model, **common)
    return PoseEstimator(options.model, options.checkpoint, **common)


def _check_flags_of_exported(options: Options) -> None:
    for flag, is_set in (
        ('--checkpoint', options.checkpoint is not None),
        ('--flip', options.flip is not None),
        ('--precision', options.precision != 'float32'),
    ):
        if is_set:
            raise UserError(f"{flag} is for configs: '{options.model}' is an exported network")


@dataclass(frozen=True)
class _Prediction:
    """Prediction on the images and videos of this shard.

    Attributes:
        options: options of the command.
        inputs: inputs of all shards.
        estimator: pose estimator.
        boxes: boxes of persons, as `Estimator.stream` takes them.
        journals: journal of this shard, then those of others.
        stamps: present stamp of each input.
    """

    options: Options
    inputs: sources.Inputs
    estimator: Estimator
    boxes: object
    journals: Sequence[Content]
    stamps: Mapping[str, Stamp]

    def predict_images(self, names: list[str]) -> None:
        """Predict images; each gets a picture and a line in the journal."""
        if not names:
            return
        options = self.options
        total = len(self.inputs.images[options.shard :: options.num_shards])
        pictures = {}
        if options.pictures:
            remove_partials(options.out / 'pictures')
            taken = results_of('picture', self.journals)
            pictures = output_names(self.inputs.images, '.jpg', taken)
        shown = options.shard == 0
        with Progress(total, 'images', total - len(names), shown) as progress:
            for result in self.estimator.stream(names, self.boxes, keep_images=options.pictures):
                entry = _entry(result, self.stamps[result.name])
                if result.image is not None:
                    self._write_picture(result, f'pictures/{pictures[result.name]}', entry)
                self.journals[0].add(entry)
                progress.step(len(result.poses))

    def _write_picture(self, result: ImagePoses, name: str, entry: dict) -> None:
        """Write a picture; an error is a problem of the image unless others would meet it, too."""
        path = self.options.out / name
        try:
            make_folder(path.parent)
            write_image(path, draw_poses(result.image, result.poses, self.options.threshold))
        except UserError as error:
            if getattr(error.__cause__, 'errno', None) in DISK_ERRORS:
                raise
            entry['problems'] = [*entry.get('problems', ()), str(error)]
        else:
            entry['picture'] = name

    def predict_videos(self, names: list[str]) -> None:
        """Predict videos; each gets a line in the journal."""
        lines = output_names(self.inputs.videos, '.jsonl', results_of('lines', self.journals))
        for name in names:
            path = self.options.out / 'videos' / lines[name]
            key = dict(file=self.stamps[name], settings=self.journals[0].settings)
            entry = predict_video(name, path, self.estimator, self.boxes, self.options, key)
            self.journals[0].add(dict(entry, **_file(name, self.stamps[name])))


def _entry(result: ImagePoses, stamp: Stamp) -> dict:
    poses = [pose.to_dict() for pose in result.poses]
    file = _file(result.name, stamp)
    entry = dict(name=result.name, **file, shape=result.shape, poses=poses)
    if result.problems:
        entry['problems'] = result.problems
    if result.failed:
        entry['failed'] = True
    return entry


def _file(name: str, stamp: Stamp) -> dict:
    return dict(file=stamp, path=os.path.abspath(name))
