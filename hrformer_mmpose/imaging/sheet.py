"""Sheets of many images with their poses."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..errors import ConfigError, DataError
from . import crops
from .canvas import check_image, text_size, write_text
from .drawing import draw_label, draw_poses
from .images import write_image
from .poses import KEYPOINT_THRESHOLD, Pose

SHEET_COLOR, CARD_COLOR = (30, 30, 30), (46, 46, 46)  # background of the sheet and of its images
PANEL_PADDING = 1.15  # size of a panel relative to the person's box
PANEL_ASPECT = 0.75  # width / height
PANEL_TEXT = 9  # pixels, height of the titles' capitals


def contact_sheet(
    items: Iterable[tuple[np.ndarray, Sequence[Pose], str]],
    path: str | os.PathLike | None = None,
    columns: int | None = None,
    tile: int = 320,
    title: str | None = None,
) -> np.ndarray:
    """Arrange thumbnails with poses and captions on one sheet.

    Args:
        items: image (H, W, 3) BGR uint8, its poses and its caption, at least once. A generator
            keeps only one large image in memory.
        path: file to write the sheet to, see `write_image`; None writes no file.
        columns: images in a row; None chooses a sheet somewhat wider than high.
        tile: longer side of a thumbnail in pixels.
        title: text above the images.

    Returns:
        Sheet (H, W, 3) BGR uint8.

    Raises:
        DataError: no items, an invalid image, or `path` cannot be written.
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
        # The highest image sets the height of a row: no wide bars around landscapes.
        height = max(image.shape[0] for image, _, _ in row)
        cards = [_card(*item, (height, tile), text) for item in row]
        cards += [np.full_like(cards[0], SHEET_COLOR)] * (columns - len(cards))
        rows.append(np.hstack([_margin(card, 0, 0, 0, gap) for card in cards]))
    sheet = np.vstack([_margin(row, 0, gap, gap, 0) for row in rows])
    sheet = _titled(sheet, title, gap, text)
    if path is not None:
        write_image(path, sheet)
    return sheet


def pose_comparison(
    image: np.ndarray, left: tuple[Pose, str], right: tuple[Pose, str], height: int
) -> np.ndarray:
    """Draw two poses of a person side by side, cut out around the first pose's box.

    Args:
        image: (H, W, 3) BGR uint8.
        left: pose and title of the left panel.
        right: pose and title of the right panel.
        height: of a panel in pixels.
    """
    panels = [_panel(image, left[0].box, *titled, height) for titled in (left, right)]
    joined = np.hstack([panels[0], np.full((height, 2, 3), 255, np.uint8), panels[1]])
    return _margin(joined, 6, 6, 6, 6)


def comparison_sheet(
    comparisons: list[np.ndarray], path: str | os.PathLike, columns: int = 3
) -> None:
    """Write pictures of equal size, at least one, to a file, row by row."""
    blank = np.full_like(comparisons[0], SHEET_COLOR)
    cells = comparisons + [blank] * (-len(comparisons) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    write_image(path, np.vstack(rows))


def _panel(image: np.ndarray, box: np.ndarray, pose: Pose, title: str, height: int) -> np.ndarray:
    """Cut a person out of `image` around `box`; draw a pose and a title."""
    size = round(PANEL_ASPECT * height), height
    (center,), (scale,) = crops.centers_and_scales(box[None], size, PANEL_PADDING)
    matrix = crops.crop_matrix(center, scale, size, udp=False)
    keypoints, corners = (
        points @ matrix[:, :2].T + matrix[:, 2] for points in (pose.keypoints, box.reshape(2, 2))
    )
    pose = replace(pose, keypoints=keypoints, box=corners.ravel())
    panel = draw_poses(crops.crop(image, matrix, size), [pose], KEYPOINT_THRESHOLD, boxes=False)
    place = np.concatenate([[4, 4], 4 + text_size(title, PANEL_TEXT)])
    draw_label(panel, title, place, PANEL_TEXT)
    return panel


def _titled(sheet: np.ndarray, title: str | None, gap: int, text: float) -> np.ndarray:
    """Add a margin above the sheet, with the title if there is one."""
    if not title:
        return _margin(sheet, gap, 0, 0, 0)
    width = sheet.shape[1]
    height = min(1.7 * text, width / max(12, len(title)))
    head = round(2 * gap + height)
    sheet = _margin(sheet, head, 0, 0, 0)
    write_text(sheet, title, (gap, head - gap), height, (240, 240, 240), width - 2 * gap)
    return sheet


def _columns(count: int) -> int:
    """Choose columns for a sheet somewhat wider than high with the fullest last row."""
    root = math.sqrt(count)
    return min(range(math.ceil(root), math.ceil(1.35 * root) + 1), key=lambda n: -count % n)


def _thumbnail(image: np.ndarray, poses: Sequence[Pose], tile: int) -> np.ndarray:
    """Scale an image to a longer side of `tile` pixels, then draw its poses: crisp lines."""
    check_image(image)
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
            pose,  # (0, 0) is the center of a pixel, before and after
            keypoints=(pose.keypoints + 0.5) * ratio - 0.5,
            box=(pose.box + 0.5) * np.tile(ratio, 2) - 0.5,
        )
        for pose in poses
    ]
    return draw_poses(small, scaled)


def _card(
    image: np.ndarray, persons: int, caption: str, size: tuple[int, int], text: float
) -> np.ndarray:
    """Center an image in `size` (height, width) above its caption."""
    height, width = size
    pad = round(text)
    card = np.full((height + 2 * pad + round(text), width, 3), CARD_COLOR, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    card[top : top + image.shape[0], left : left + image.shape[1]] = image
    count = f'{persons or "no"} person{"s" * (persons != 1)}'
    used, bottom = text_size(count, text)[0], height + pad + text
    if used > 0.5 * width:
        used = 0  # small card: the caption takes all the width
    else:
        write_text(card, count, (width - used, bottom), text, (150, 150, 150), used)
    write_text(card, caption, (pad, bottom), text, (225, 225, 225), width - used - 2 * pad)
    return card


def _margin(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    return cv2.copyMakeBorder(
        image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=SHEET_COLOR
    )
