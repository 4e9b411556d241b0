"""What pictures are drawn by: lines, discs and text with smooth edges, blended into an image.

Shapes: H, W of an image in pixels.
"""

import unicodedata

import cv2
import numpy as np

from ..errors import DataError

FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL = 21.5  # pixels, height of the font's capitals and digits at scale 1


def check(image) -> None:
    """That an image is one to draw on."""
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
        if image is None:
            found += ', which cv2.imread returns for a file that it cannot read'
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f'{image.dtype} of shape {image.shape}'
    else:
        return
    raise DataError(f'to draw on, an image of shape (H, W, 3), BGR uint8, is needed, not {found}')


class Layer:
    """A transparent sheet over a part of an image, blended into it once.

    What is drawn on a layer replaces what is there, transparency included, so that crossing lines
    do not add up. Its colours are multiplied by their opacity, with which OpenCV's anti-aliasing
    and shrinking are exact.
    """

    def __init__(self, image, low, high, detail: int):
        """Over the pixels from `low` to `high` (x, y) of image, `detail` times as fine."""
        size = np.array(image.shape[1::-1])
        first = np.clip(np.floor(low), 0, size).astype(int)
        last = np.clip(np.ceil(high) + 1, first, size).astype(int)
        self.part = image[first[1] : last[1], first[0] : last[0]]
        self.first, self.detail = first, detail
        height, width = self.part.shape[:2]
        self.paint = np.zeros((height * detail, width * detail, 4), np.uint8)

    def _at(self, point) -> tuple[int, int]:
        """Where OpenCV has a point of the image, in 1/16 of the layer's pixels."""
        fine = (np.asarray(point) - self.first) * self.detail + (self.detail - 1) / 2
        x, y = np.rint(16 * fine)
        return int(x), int(y)

    def line(self, start, end, width: float, color, opacity: float) -> None:
        """From one point to another, round at its ends; `width` in pixels."""
        width = max(1, round(width * self.detail))
        color = _premultiplied(color, opacity)
        cv2.line(self.paint, self._at(start), self._at(end), color, width, cv2.LINE_AA, 4)

    def disc(self, centre, radius: float, color, opacity: float) -> None:
        """A full circle; `radius` in pixels."""
        radius = round(16 * radius * self.detail)
        color = _premultiplied(color, opacity)
        cv2.circle(self.paint, self._at(centre), radius, color, -1, cv2.LINE_AA, 4)

    def text(self, text: str, left_bottom, height: float, color) -> None:
        """Letters whose capitals are `height` pixels high."""
        x, y = (value // 16 for value in self._at(left_bottom))
        height *= self.detail
        scale, width = height / CAPITAL, max(1, round(height / 8))
        color = _premultiplied(color, 1)
        cv2.putText(self.paint, text, (x, y), FONT, scale, color, width, cv2.LINE_AA)

    def blend(self) -> None:
        """Put the layer into the image."""
        paint = self.paint
        if self.detail > 1 and paint.size:
            paint = cv2.resize(paint, self.part.shape[1::-1], interpolation=cv2.INTER_AREA)
        # Few pixels are covered, even by a person who fills the image.
        covered = np.flatnonzero(np.ascontiguousarray(paint).view(np.uint32))
        rows, columns = np.divmod(covered, max(1, paint.shape[1]))
        over, under = paint[rows, columns].astype(np.uint16), self.part[rows, columns]
        mixed = over[:, :3] + (under * (255 - over[:, 3:]) + 127) // 255
        self.part[rows, columns] = np.minimum(mixed, 255)  # roundings may add up to 256


def _premultiplied(color, opacity: float) -> tuple[float, ...]:
    return tuple(round(value * opacity) for value in (*color, 255))


def text_size(text: str, height: float) -> np.ndarray:
    """Width and height in pixels of a label whose digits are `height` high."""
    width = cv2.getTextSize(text, FONT, 1, 2)[0][0] * height / CAPITAL
    return np.array([width + 0.9 * height, 1.8 * height])


def write_text(image, text: str, left_bottom, height: float, color, width: float) -> None:
    """Write text, its middle left out where it is wider than `width` pixels."""
    # OpenCV's font has ASCII only.
    text = unicodedata.normalize('NFKD', text)
    text = ''.join(c for c in text if not unicodedata.combining(c))
    text = shown = text.encode('ascii', 'replace').decode()
    while len(text) > 2 and text_size(shown, height)[0] - 0.9 * height > width:
        text = text[: len(text) // 2] + text[len(text) // 2 + 1 :]
        shown = f'{text[: len(text) // 2]}...{text[len(text) // 2 :]}'
    x, y = left_bottom
    layer = Layer(image, (x, y - 2 * height), (x + width + height, y + height), 4)
    layer.text(shown, left_bottom, height, color)
    layer.blend()
