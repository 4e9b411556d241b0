"""Lines that tell what was chosen for a new data set."""

from collections.abc import Iterable, Iterator

from ..imaging.skeleton import Skeleton
from .config import Settings
from .flip_pairs import Flips
from .repair import KeypointSet
from .source import counted

NAMES_SHOWN = 12


def keypoint_lines(skeleton: Skeleton, flips: Flips, origins: list[str]) -> Iterator[str]:
    """Yield the flip pairs, for confirmation, and the origins of the sigmas."""
    names = skeleton.names
    yield f'{counted(len(names), "keypoint")}, {counted(len(skeleton.links), "edge")}'
    pairs = ', '.join(f'{names[a]} <-> {names[b]}' for a, b in flips.pairs())
    yield f'flip pairs: {pairs or "none"}'
    middle = [name for k, name in enumerate(names) if flips.indices[k] == k]
    yield f'their own mirror image: {some(middle) or "none"}'
    yield from unsure_lines(flips)
    yield from (f'sigmas {origin}' for origin in origins)


def unsure_lines(flips: Flips) -> Iterator[str]:
    """Yield a line if the names do not tell all flip pairs."""
    if flips.unsure:
        yield (
            f'flip pairs UNSURE of {some(flips.unsure)}: if wrong, --flip-pairs LEFT:RIGHT ..., '
            'or `swap` in metainfo.py'
        )


def training_lines(train: KeypointSet, val: KeypointSet, settings: Settings) -> Iterator[str]:
    """Yield the numbers of persons, the schedule, and the weights to start from."""
    for use, part in (('train', train), ('val', val)):
        persons = counted(len(part.persons()), 'person')
        yield f'{use}: {persons} on {counted(len(part.images), "image")}'
    width, height = settings.input_size
    plan = settings.schedule
    yield (
        f'HRFormer {settings.model}, input {height}x{width} (height x width), batch size '
        f'{plan.batch_size}, {counted(plan.epochs, "epoch")}, learning rate {plan.rate:g}'
    )
    if settings.weights == 'none' or (settings.weights is None and settings.model == 'tiny'):
        yield 'starts from random weights (--weights FILE)'
    elif settings.weights is None:
        yield 'starts from ImageNet weights, downloaded by the training (--weights FILE or none)'
    else:
        yield f"starts from '{settings.weights}': backbone, and rows of equal keypoints"


def some(names: Iterable[str]) -> str:
    """Return the first names, and the number of the others."""
    names = list(names)
    more = f' and {len(names) - NAMES_SHOWN} more' if names[NAMES_SHOWN:] else ''
    return ', '.join(names[:NAMES_SHOWN]) + more
