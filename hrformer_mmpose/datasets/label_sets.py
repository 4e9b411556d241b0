"""Classes of segmentation data sets, and the pixel values that their masks have.

Sources: Cityscapes: `labels.py` of https://github.com/mcordts/cityscapesScripts. COCO-Stuff:
`labels.md` of https://github.com/nightrome/cocostuff; the 171 classes without the eleven that no
pixel has. PASCAL-Context: the 59 most frequent classes, as the authors' code and MMSegmentation
number them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ..errors import ConfigError, DataError

IGNORED = 255  # index of pixels that do not count
_UNKNOWN = -1


@dataclass(frozen=True)
class LabelSet:
    """Classes and the pixel values of masks.

    Attributes:
        name: for messages.
        classes: names in the order of their indices.
        values: pixel value of each class.
        ignored: pixel values that do not count.
    """

    name: str
    classes: tuple[str, ...]
    values: tuple[int, ...]
    ignored: tuple[int, ...] = (IGNORED,)

    def indices(self, mask: np.ndarray, path: str, ignore_index: int = IGNORED) -> np.ndarray:
        """Convert pixel values to class indices, (H, W) uint8 -> (H, W) uint8.

        Args:
            mask: pixel values.
            path: of the mask, for messages.
            ignore_index: index of pixels that do not count.

        Raises:
            DataError: a value is no label.
        """
        table = np.full(256, _UNKNOWN)
        table[[*self.ignored]] = ignore_index
        table[[*self.values]] = range(len(self.values))
        counts = np.bincount(mask.ravel(), minlength=256)
        if (unknown := np.flatnonzero((counts > 0) & (table == _UNKNOWN))).size:
            raise DataError(
                f"mask '{path}' holds {unknown[0]}, which is no label of {self.name}: they are "
                f'{_ranges((*self.values, *self.ignored))}'
            )
        return table.astype(np.uint8)[mask]


def _ranges(values: Sequence[int]) -> str:
    """Write numbers as ranges: '0-11, 13'."""
    runs = groupby(enumerate(sorted(values)), lambda pair: pair[1] - pair[0])
    ends = ([pair[1] for pair in run] for _, run in runs)
    return ', '.join(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in ends)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(', '))


_CITYSCAPES = _names(
    'road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, '
    'terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle'
)
# Values of labelIds.png; the others up to 33 are void.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
_PASCAL_CONTEXT = _names(
    'aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, '
    'cabinet, car, cat, ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, '
    'floor, flower, food, grass, ground, horse, keyboard, light, motorbike, mountain, mouse, '
    'person, plate, platform, pottedplant, road, rock, sheep, shelves, sidewalk, sign, sky, snow, '
    'sofa, table, track, train, tree, truck, tvmonitor, wall, water, window, wood'
)
_COCO_STUFF = _names(
    'person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, '
    'fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, '
    'bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, '
    'sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, '
    'bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, '
    'broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, '
    'dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, '
    'toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, '
    'toothbrush, banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, '
    'carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, '
    'desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, '
    'floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, '
    'hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, '
    'paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, '
    'river, road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, '
    'solid-other, stairs, stone, straw, structural-other, table, tent, textile-other, towel, '
    'tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, '
    'wall-wood, water-other, waterdrops, window-blind, window-other, wood'
)
_COCO_ABSENT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_COCO_IDS = tuple(value for value in range(1, 183) if value not in _COCO_ABSENT)

LABEL_SETS = {
    labels.name: labels
    for labels in (
        LabelSet(
            'cityscapes',
            _CITYSCAPES,
            _CITYSCAPES_IDS,
            tuple(value for value in (*range(34), IGNORED) if value not in _CITYSCAPES_IDS),
        ),
        LabelSet('cityscapes_train_ids', _CITYSCAPES, tuple(range(19))),
        LabelSet('pascal_context', _PASCAL_CONTEXT, tuple(range(1, 60)), (0, IGNORED)),
        LabelSet('pascal_context_60', ('background', *_PASCAL_CONTEXT), tuple(range(60))),
        # Version 1.1 of the 10k set, with 0 for unlabeled pixels.
        LabelSet('coco_stuff_10k', _COCO_STUFF, _COCO_IDS, (0,)),
        LabelSet('coco_stuff_164k', _COCO_STUFF, tuple(i - 1 for i in _COCO_IDS)),
    )
}


def label_set(classes: str | Sequence[str]) -> LabelSet:
    """Return a set of labels by name, or the one whose pixel values are class indices.

    Args:
        classes: key of `LABEL_SETS`, or names of classes.

    Raises:
        ConfigError: an unknown name, or more classes than a mask can hold.
    """
    if not isinstance(classes, str):
        if not 0 < len(classes) <= IGNORED:
            raise ConfigError(f'MaskFolder: {len(classes)} classes, not 1 to {IGNORED}')
        return LabelSet('the classes', tuple(classes), tuple(range(len(classes))))
    if classes not in LABEL_SETS:
        names = ', '.join(LABEL_SETS)
        raise ConfigError(f'MaskFolder: classes={classes!r} is not one of {names}, or a tuple')
    return LABEL_SETS[classes]
