"""Many images with their poses on one sheet."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..errors import ConfigError, DataError
from .canvas import check, text_size, write_text
from .drawing import draw_poses
from .images import write_image
from .poses import Pose

SHEET, CARD = (30, 30, 30), (46, 46, 46)  # grounds of the sheet and of an image on it


def contact_sheet(
    items: Iterable[tuple[np.ndarray, Sequence[Pose], str]],
    path: str | os.PathLike | None = None,
    columns: int | None = None,
    tile: int = 320,
    title: str | None = None,
) -> np.ndarray:
    """Many small images with their poses and captions, on one sheet.

    Args:
        items: image (H, W, 3) BGR uint8, its poses, caption. At least one; may be a generator, so
            that only one large image at a time is in memory.
        path: where to write the sheet as well, as `write_image` does.
        columns: images beside one another; as a rule, so many that the sheet is a bit wider than
            high.
        tile: pixels, the longer side of an image on the sheet.
        title: above the images.

    Returns:
        (H, W, 3) BGR uint8.

    Raises:
        DataError: no items, an image that is something else, or `path` cannot be written.
        ConfigError: `columns` or `tile` is too small.
    """
    if tile < 64:
        raise ConfigError(f'tile={tile}: an image on a contact sheet needs 64 pixels at least')
    if columns is not None and columns < 1:
        raise ConfigError(f'columns={columns}: a contact sheet needs one column at least')
    tiles = [
        (_thumbnail(image, poses, tile), len(poses), caption) for image, poses, caption in items
    ]
    if not tiles:
        raise DataError('a contact sheet needs one image at least, and there is none')
    columns = min(columns or _columns(len(tiles)), len(tiles))
    gap, text = max(6, tile // 20), max(8, tile / 32)
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        # The row is as high as its highest image: no wide black bars where all are landscapes.
        height = max(image.shape[0] for image, _, _ in row)
        cards = [_card(*item, (height, tile), text) for item in row]
        cards += [np.full_like(cards[0], SHEET)] * (columns - len(cards))
        rows.append(np.hstack([_margin(card, 0, 0, 0, gap) for card in cards]))
    sheet = np.vstack([_margin(row, 0, gap, gap, 0) for row in rows])
    head = gap
    if title:
        large = min(1.7 * text, sheet.shape[1] / max(12, len(title)))
        head = round(2 * gap + large)
    sheet = _margin(sheet, head, 0, 0, 0)
    if title:
        write_text(
            sheet, title, (gap, head - gap), large, (240, 240, 240), sheet.shape[1] - 2 * gap
        )
    if path is not None:
        write_image(path, sheet)
    return sheet


def _columns(count: int) -> int:
    """For a sheet somewhat wider than high, whose last row is as full as can be."""
    root = math.sqrt(count)
    return min(range(math.ceil(root), math.ceil(1.35 * root) + 1), key=lambda n: -count % n)


def _thumbnail(image: np.ndarray, poses: Sequence[Pose], tile: int) -> np.ndarray:
    """Image with poses, its longer side `tile` pixels; drawn after scaling, for crisp lines."""
    check(image)
    height, width = image.shape[:2]
    scale = tile / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(
        np.ascontiguousarray(image),
        size,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    ratio = np.array(size) / (width, height)
    scaled = [
        replace(
            pose,  # (0, 0) is the centre of a pixel, before and after
            keypoints=(pose.keypoints + 0.5) * ratio - 0.5,
            box=(pose.box + 0.5) * np.tile(ratio, 2) - 0.5,
        )
        for pose in poses
    ]
    return draw_poses(small, scaled)


def _card(
    image: np.ndarray, persons: int, caption: str, size: tuple[int, int], text: float
) -> np.ndarray:
    """An image in the middle of `size` (height, width), over its caption."""
    height, width = size
    pad = round(text)
    card = np.full((height + 2 * pad + round(text), width, 3), CARD, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    card[top : top + image.shape[0], left : left + image.shape[1]] = image
    count = f'{persons or "no"} person{"s" * (persons != 1)}'
    used, bottom = text_size(count, text)[0], height + pad + text
    if used > 0.5 * width:
        used = 0  # on a small card the name has all the room
    else:
        write_text(card, count, (width - used, bottom), text, (150, 150, 150), used)
    write_text(card, caption, (pad, bottom), text, (225, 225, 225), width - used - 2 * pad)
    return card


def _margin(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=SHEET)
