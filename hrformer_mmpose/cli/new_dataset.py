"""From annotations of one's own to a config that trains: `hrformer new-dataset`.

Annotations of any tool -> `owndata` (category, repairs, flips, sigmas, split) -> folder with
metainfo.py, train.json, val.json, config.py and sheet.jpg -> the data check -> the next command.
"""

import argparse
import json
import os
import secrets
from dataclasses import replace
from pathlib import Path

from ..checkpoint import files, state_dict_adapter
from ..errors import ConfigError, DataError
from ..imaging.skeleton import Skeleton
from ..owndata import category, config, flip_pairs, metainfo, readers, schedule, sheet, sigmas
from ..owndata.flip_pairs import Flips
from ..owndata.image_files import ImageFolder
from ..owndata.repair import KeypointSet, repair
from ..owndata.split import split
from . import check_dataset
from .arguments import positive

MODELS = ('tiny', 'small', 'base')
UNUSABLE = '\'"\\{}\n\r'  # in the path of a config: it stands in a string of the config
NAMES_SHOWN = 12


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
    flags.add_argument('--val-fraction', type=float, default=0.1, metavar='SHARE', help='(0.1)')
    flags.add_argument('--seed', type=int, default=0, help='of the split and the sheet')
    flags.add_argument('--model', choices=MODELS, default='small', help='HRFormer-T, -S or -B')
    flags.add_argument(
        '--weights', metavar='FILE', help="checkpoint to start from (default: ImageNet's; 'none')"
    )
    flags.add_argument(
        '--input-size', type=_size, metavar='HxW', help='default: by the shape of the boxes'
    )
    flags.add_argument('--epochs', type=positive, help='default: by the number of persons')
    flags.add_argument(
        '--overfit',
        action='store_true',
        help='a trial: learn the persons by heart, unaugmented, and validate on the same',
    )
    return flags


def run(args: argparse.Namespace) -> int:
    """Write the folder, check the data and return the status of the check."""
    out = _new_folder(args.out)
    folder = ImageFolder(args.images)
    labels = _labels(args.annotations, args.images, folder, args)
    names = labels.category.names
    flips = _flips(labels, args.flip_pairs)
    skeleton = Skeleton(names, labels.category.edges, flips.indices)
    second = _same_keypoints('--second', args.second, args.images, folder, args, names)
    values, origins = sigmas.choose(names, labels, second)
    train, val, val_folder = _parts(labels, folder, args)
    settings = _settings(train, folder, val_folder, args)
    _describe(labels, flips, skeleton, origins)
    _describe_training(train, val, settings)
    about = f'{len(names)} keypoints of {labels.category.name!r}, {Path(args.annotations).name}'
    written = {
        'metainfo.py': metainfo.text(out.name, skeleton, values, [about, *_confirm(flips)]),
        'config.py': config.text(settings, f'{about}: written by hrformer new-dataset'),
        'train.json': _coco(train, skeleton),
        'val.json': _coco(val, skeleton),
    }
    partial = out.with_name(f'{out.name}.{secrets.token_hex(4)}.partial')
    partial.mkdir(parents=True)
    for name, content in written.items():
        (partial / name).write_text(content, encoding='utf-8')
    sheet.write(partial / 'sheet.jpg', labels, skeleton, folder.root, args.seed)
    os.rename(partial, out)
    return _finish(args.out)


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


def _new_folder(out: str) -> Path:
    path = Path(out).absolute()
    if path.exists() or path.is_symlink():
        raise ConfigError(f"--out '{out}' exists, and nothing is overwritten: give a new name")
    if bad := [c for c in UNUSABLE if c in str(path)]:
        raise ConfigError(f'--out {out!r}: the path of a config cannot hold {bad[0]!r}')
    place = next(parent for parent in path.parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise ConfigError(f"--out '{out}': nothing can be written in '{place}'")
    return path


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
        f"'{annotations}' ({source.tool}), '{labels.category.name}': {len(labels.persons())} "
        f'persons with keypoints, {len(labels.images)} images'
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
    labels = _labels(annotations, images, folder, args)
    if set(labels.category.names) != set(names):
        missing = [name for name in names if name not in labels.category.names]
        raise DataError(
            f"{flag} '{annotations}' has other keypoints: {len(labels.category.names)}, without "
            f'{", ".join(missing[:NAMES_SHOWN]) or "some of its own in the first file"}'
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
    stated = labels.category.flip_indices
    return Flips(stated, ()) if stated else flip_pairs.guess(names)


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
    train, val = split(labels, args.val_fraction, args.seed)
    return _only(labels, train), _only(labels, val), folder


def _only(labels: KeypointSet, images: set[int]) -> KeypointSet:
    return replace(
        labels,
        images=[image for image in labels.images if image['id'] in images],
        annotations=[a for a in labels.annotations if a['image_id'] in images],
    )


def _settings(
    train: KeypointSet, folder: ImageFolder, val_folder: ImageFolder, args: argparse.Namespace
) -> config.Settings:
    persons = train.persons()
    weights, whole = _weights(args.weights, len(train.category.names))
    return config.Settings(
        model=args.model,
        num_keypoints=len(train.category.names),
        input_size=args.input_size or schedule.input_size([p['bbox'] for p in persons]),
        schedule=schedule.schedule(len(persons), args.epochs),
        images=str(folder.root),
        val_images=str(val_folder.root),
        weights=weights,
        whole=whole,
        augmentation=not args.overfit,
    )


def _weights(file: str | None, num_keypoints: int) -> tuple[str | None, bool]:
    """Return the file to start from, and whether its head fits, too."""
    if file is None or file == 'none' or '://' in file:
        return file, False
    weights = files.load_weights(file)
    whole = state_dict_adapter.num_keypoints(weights) == num_keypoints
    return str(Path(file).absolute()), whole


def _describe(labels: KeypointSet, flips: Flips, skeleton: Skeleton, origins: list[str]) -> None:
    names = skeleton.names
    print(f'{len(names)} keypoints, {len(skeleton.links)} edges')
    for line in _confirm(flips, names):
        print(line)
    for origin in origins:
        print(f'sigmas {origin}')


def _confirm(flips: Flips, names: tuple[str, ...] = ()) -> list[str]:
    """Return the lines that show the flip pairs for confirmation."""
    lines = []
    if names:
        pairs = ', '.join(f'{names[a]} <-> {names[b]}' for a, b in flips.pairs()) or 'none'
        middle = [name for k, name in enumerate(names) if flips.indices[k] == k]
        lines.append(f'flip pairs: {pairs}')
        lines.append(f'their own mirror image: {_some(middle) or "none"}')
    if flips.unsure:
        lines.append(
            f'flip pairs UNSURE of {_some(flips.unsure)}: if wrong, --flip-pairs LEFT:RIGHT ..., '
            'or `swap` in metainfo.py'
        )
    return lines


def _some(names) -> str:
    names = list(names)
    more = f' and {len(names) - NAMES_SHOWN} more' if names[NAMES_SHOWN:] else ''
    return ', '.join(names[:NAMES_SHOWN]) + more


def _describe_training(train: KeypointSet, val: KeypointSet, settings: config.Settings) -> None:
    for use, part in (('train', train), ('val', val)):
        print(f'{use}: {len(part.persons())} persons on {len(part.images)} images')
    width, height = settings.input_size
    plan = settings.schedule
    print(
        f'HRFormer {settings.model}, input {height}x{width} (height x width), batch size '
        f'{plan.batch_size}, {plan.epochs} epochs, learning rate {plan.rate:g}'
    )
    if settings.weights is None and settings.model != 'tiny':
        print('starts from ImageNet weights, downloaded by the training (--weights FILE or none)')
    elif settings.whole:
        print(f"starts from backbone and head of '{settings.weights}'")
    elif settings.weights not in (None, 'none'):
        print(f"starts from the backbone of '{settings.weights}'; the head starts anew")


def _coco(labels: KeypointSet, skeleton: Skeleton) -> str:
    images = [{k: v for k, v in image.items() if k != 'split'} for image in labels.images]
    edges = [[a + 1, b + 1] for a, b in skeleton.links]
    person = dict(id=1, name=labels.category.name, keypoints=list(skeleton.names), skeleton=edges)
    content = dict(images=images, annotations=labels.annotations, categories=[person])
    return json.dumps(content, ensure_ascii=False)
