"""From annotations of one's own to a config that trains: `hrformer new-dataset`.

Annotations of any tool -> `owndata` (category, repairs, flips, sigmas, split) -> folder with
metainfo.py, train.json, val.json, config.py and sheet.jpg -> the data check -> the next command.
"""

import argparse
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..checkpoint import files
from ..errors import ConfigError, DataError
from ..imaging.skeleton import Skeleton
from ..owndata import (
    category,
    config,
    dataset_folder,
    flip_pairs,
    metainfo,
    readers,
    schedule,
    sheet,
    sigmas,
    summary,
)
from ..owndata.flip_pairs import Flips
from ..owndata.image_files import ImageFolder
from ..owndata.repair import KeypointSet, repair
from ..owndata.source import counted
from ..owndata.split import split
from . import check_dataset
from .arguments import positive

MODELS = ('tiny', 'small', 'base')
VAL_FRACTION = 0.1  # of the images


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Write metainfo and config for keypoints of your own, check the data and draw '
        f'them. Annotations: {readers.FORMS}'
    )
    flags.add_argument('annotations', help='file, or folder of LabelMe or YOLO files')
    flags.add_argument('--images', required=True, metavar='DIR', help='folder of the images')
    flags.add_argument('--out', required=True, metavar='NAME', help='folder to write, new')
    flags.add_argument('--category', metavar='NAME', help="one of several; 'all' joins them")
    flags.add_argument(
        '--keypoints', nargs='+', default=[], metavar='NAME', help='names: select, order or rename'
    )
    flags.add_argument(
        '--flip-pairs',
        nargs='+',
        metavar='LEFT:RIGHT',
        help="keypoints that change places in a mirrored image, instead of the guess; 'none'",
    )
    flags.add_argument('--second', metavar='FILE', help="a second annotator's file, for sigmas")
    flags.add_argument('--val', metavar='FILE', help='annotations to validate on (default: a part)')
    flags.add_argument('--val-images', metavar='DIR', help='their images (default: --images)')
    flags.add_argument(
        '--val-fraction', type=float, metavar='SHARE', help=f'({VAL_FRACTION}), without --val'
    )
    flags.add_argument('--seed', type=int, default=0, help='of the split and the sheet')
    flags.add_argument('--model', choices=MODELS, default='small', help='HRFormer-T, -S or -B')
    flags.add_argument(
        '--weights', metavar='FILE', help="checkpoint to start from (default: ImageNet's; 'none')"
    )
    flags.add_argument(
        '--input-size', type=_size, metavar='HxW', help='default: by the shape of the boxes'
    )
    flags.add_argument('--codec', choices=[*config.CODECS], default='udp', help='(udp)')
    flags.add_argument('--epochs', type=positive, help='default: by the number of persons')
    flags.add_argument(
        '--overfit',
        action='store_true',
        help='a trial: learn the persons by heart, unaugmented, and validate on the same',
    )
    return flags


def run(args: argparse.Namespace) -> int:
    """Write the folder, check the data and return the status of the check."""
    _check_flags(args)
    out = dataset_folder.check_name(args.out)
    folder = ImageFolder(args.images)
    labels = _labels(args.annotations, args.images, folder, args)
    names = labels.category.names
    flips = _flips(labels, args.flip_pairs)
    skeleton = Skeleton(names, labels.category.edges, flips.indices)
    second = _same_keypoints('--second', args.second, args.images, folder, args, names)
    values, origins = sigmas.choose(names, labels, second)
    train, val, val_folder = _parts(labels, folder, args)
    settings = _settings(train, folder, val_folder, args)
    print(*summary.keypoint_lines(skeleton, flips, origins), sep='\n')
    print(*summary.training_lines(train, val, settings), sep='\n')
    file = ' '.join(Path(args.annotations).name.split())  # stays in a comment
    about = f'{counted(len(names), "keypoint")} of {labels.category.name!r}, {file}'
    unsure = summary.unsure_lines(flips)
    written = {
        'metainfo.py': metainfo.text(out.name, skeleton, values, [about, *unsure]),
        'config.py': config.text(settings, f'{about}: written by hrformer new-dataset'),
        'train.json': dataset_folder.annotation_file(train, skeleton),
        'val.json': dataset_folder.annotation_file(val, skeleton),
    }
    _check_text(written.values())
    with dataset_folder.creating(out) as place:
        for name, content in written.items():
            (place / name).write_text(content, encoding='utf-8')
        sheet.write(place / 'sheet.jpg', labels, skeleton, folder.root, args.seed)
    return _finish(args.out)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that would have no effect beside the others."""
    if args.overfit and args.val:
        raise ConfigError('--overfit validates on the training data: leave --val out')
    if args.val_images and not args.val:
        raise ConfigError('--val-images is for --val, the annotations to validate on')
    if args.val_fraction is not None and (args.val or args.overfit):
        raise ConfigError('--val-fraction splits the annotations: not with --val or --overfit')


def _check_text(texts: Iterable[str]) -> None:
    """Refuse names of files that are no UTF-8, before anything is written."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            start = text.rfind('"', 0, error.start) + 1
            name = text[max(start, error.start - 80) : error.end + 20].partition('"')[0]
            raise DataError(f'the name {name!r} is not UTF-8: rename the file or folder') from error


def _finish(out: str) -> int:
    """Run the data check on the written config, and print the next command."""
    path = os.path.join(out, 'config.py')
    print(f'\ndata check of {path}:')
    status = check_dataset.run(check_dataset.parser().parse_args([path]))
    print(f'\nlook at {os.path.join(out, "sheet.jpg")}: is left (orange) the left of each person?')
    if status:
        print('mend the problems above, remove the folder, and run this command again')
    else:
        print(f'next: python tools/train.py {path}')
    return status


def _size(text: str) -> tuple[int, int]:
    """Parse HxW as (width, height)."""
    height, _, width = text.lower().partition('x')
    sides = [int(side) if side.isdecimal() else 0 for side in (width, height)]
    if not all(side >= 32 and side % 4 == 0 for side in sides):
        raise argparse.ArgumentTypeError(f'{text!r} is not HxW, multiples of 4 from 32 on')
    return sides[0], sides[1]


def _labels(
    annotations: str, images: str, folder: ImageFolder, args: argparse.Namespace
) -> KeypointSet:
    source = readers.read(annotations, images)
    labels = repair(source, category.choose(source, args.category, args.keypoints), folder)
    if not labels.persons():
        raise DataError(f"'{annotations}' holds no person with labelled keypoints")
    print(
        f"'{annotations}' ({source.tool}), '{labels.category.name}': "
        f'{counted(len(labels.persons()), "person")} with keypoints, '
        f'{counted(len(labels.images), "image")}'
    )
    for note in labels.notes:
        print(f'  note: {note}')
    return labels


def _same_keypoints(
    flag: str,
    annotations: str | None,
    images: str,
    folder: ImageFolder,
    args: argparse.Namespace,
    names: tuple[str, ...],
) -> KeypointSet | None:
    """Read a further file, which must have the same keypoints; they are put in the same order."""
    if annotations is None:
        return None
    try:
        labels = _labels(annotations, images, folder, args)
    except DataError as error:
        raise DataError(f"{flag} '{annotations}': {error}") from error
    if set(labels.category.names) != set(names):
        missing = [name for name in names if name not in labels.category.names]
        raise DataError(
            f"{flag} '{annotations}' has other keypoints: {len(labels.category.names)}, without "
            f'{summary.some(missing) or "some of its own in the first file"}'
        )
    order = [labels.category.names.index(name) for name in names]
    entries = [dict(a, keypoints=_reordered(a['keypoints'], order)) for a in labels.annotations]
    return replace(labels, annotations=entries)


def _reordered(keypoints: list[float], order: list[int]) -> list[float]:
    return [value for k in order for value in keypoints[3 * k : 3 * k + 3]]


def _flips(labels: KeypointSet, pairs: list[str] | None) -> Flips:
    names = labels.category.names
    if pairs:
        return flip_pairs.from_pairs(names, pairs)
    stated, guess = labels.category.flip_indices, flip_pairs.guess(names)
    return flip_pairs.stated(names, stated, guess) if stated else guess


def _parts(
    labels: KeypointSet, folder: ImageFolder, args: argparse.Namespace
) -> tuple[KeypointSet, KeypointSet, ImageFolder]:
    """Return the data to train on and to validate on, and the images of the latter."""
    if args.overfit:
        return labels, labels, folder
    if args.val:
        images = args.val_images or args.images
        other = ImageFolder(images)
        names = labels.category.names
        val = _same_keypoints('--val', args.val, images, other, args, names)
        return labels, val, other
    share = VAL_FRACTION if args.val_fraction is None else args.val_fraction
    train, val = split(labels, share, args.seed)
    return labels.of_images(train), labels.of_images(val), folder


def _settings(
    train: KeypointSet, folder: ImageFolder, val_folder: ImageFolder, args: argparse.Namespace
) -> config.Settings:
    persons = train.persons()
    return config.Settings(
        name=Path(args.out).absolute().name,
        model=args.model,
        num_keypoints=len(train.category.names),
        codec=args.codec,
        input_size=args.input_size or schedule.input_size([p['bbox'] for p in persons]),
        schedule=schedule.schedule(len(persons), args.epochs, args.overfit),
        images=str(folder.root),
        val_images=str(val_folder.root),
        weights=_weights(args.weights),
        augmentation=not args.overfit,
    )


def _weights(file: str | None) -> str | None:
    """Return the file to start from; a local one is read, so that a bad one is known now."""
    if file is None or file == 'none' or '://' in file:
        return file
    files.load_weights(file)
    return str(Path(file).absolute())
