"""Anti-aliased lines, discs and text, blended into an image.

Shapes: (H, W) of an image in pixels.
"""

import unicodedata

import cv2
import numpy as np

from ..errors import DataError

FONT = cv2.FONT_HERSHEY_SIMPLEX
CAP_HEIGHT = 21.5  # pixels, of the font's capitals and digits at scale 1


def check_image(image) -> None:
    """Raise a `DataError` unless `image` is (H, W, 3) BGR uint8."""
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        if image is None:
            kind += ', which cv2.imread returns for a file that it cannot read'
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        kind = f'{image.dtype} of shape {image.shape}'
    else:
        return
    raise DataError(f'to draw on, an image of shape (H, W, 3), BGR uint8, is needed, not {kind}')


class Layer:
    """Transparent layer over a part of an image, blended into it once.

    Drawing replaces the layer's pixels, alpha included, so that the opacity of crossing lines does
    not add up. Colors are premultiplied by alpha, which makes OpenCV's anti-aliasing and
    downscaling exact.

    Args:
        image: (H, W, 3) BGR uint8, changed by `blend`.
        low: (x, y) of the covered part's top left corner.
        high: (x, y) of its bottom right corner.
        detail: supersampling factor.
    """

    def __init__(self, image, low, high, detail: int):
        size = np.array(image.shape[1::-1])
        first = np.clip(np.floor(low), 0, size).astype(int)
        last = np.clip(np.ceil(high) + 1, first, size).astype(int)
        self.part = image[first[1] : last[1], first[0] : last[0]]
        self.first, self.detail = first.tolist(), detail
        height, width = self.part.shape[:2]
        self.paint = np.zeros((height * detail, width * detail, 4), np.uint8)

    def _at(self, point) -> tuple[int, int]:
        """Convert a point of the image to OpenCV's fixed-point numbers, 1/16 pixel of the layer."""
        # Plain numbers: NumPy would take most of the time of a line for two of them.
        (x, y), (x0, y0), middle = point, self.first, (self.detail - 1) / 2
        return tuple(
            round(16 * ((float(value) - first) * self.detail + middle))
            for value, first in ((x, x0), (y, y0))
        )

    def line(self, start, end, width: float, color, opacity: float) -> None:
        """Draw a line of `width` pixels with round ends."""
        width = max(1, round(width * self.detail))
        color = _premultiplied(color, opacity)
        cv2.line(self.paint, self._at(start), self._at(end), color, width, cv2.LINE_AA, 4)

    def disc(self, center, radius: float, color, opacity: float) -> None:
        """Draw a filled circle of `radius` pixels."""
        radius = round(16 * radius * self.detail)
        color = _premultiplied(color, opacity)
        cv2.circle(self.paint, self._at(center), radius, color, -1, cv2.LINE_AA, 4)

    def text(self, text: str, left_bottom, height: float, color) -> None:
        """Write text whose capitals are `height` pixels high."""
        x, y = (value // 16 for value in self._at(left_bottom))
        height *= self.detail
        scale, width = height / CAP_HEIGHT, max(1, round(height / 8))
        color = _premultiplied(color, 1)
        cv2.putText(self.paint, text, (x, y), FONT, scale, color, width, cv2.LINE_AA)

    def blend(self) -> None:
        """Blend the layer into the image."""
        paint = self.paint
        if self.detail > 1 and paint.size:
            paint = cv2.resize(paint, self.part.shape[1::-1], interpolation=cv2.INTER_AREA)
        # Blend the painted pixels only: few, even for a person that fills the image.
        painted = np.flatnonzero(np.ascontiguousarray(paint).view(np.uint32))
        rows, columns = np.divmod(painted, max(1, paint.shape[1]))
        over, under = paint[rows, columns].astype(np.uint16), self.part[rows, columns]
        mixed = over[:, :3] + (under * (255 - over[:, 3:]) + 127) // 255
        self.part[rows, columns] = np.minimum(mixed, 255)  # rounding errors may add up to 256


def _premultiplied(color, opacity: float) -> tuple[float, ...]:
    blue, green, red = color
    return round(blue * opacity), round(green * opacity), round(red * opacity), round(255 * opacity)


def text_size(text: str, height: float) -> np.ndarray:
    """Return width and height in pixels of a label whose digits are `height` pixels high."""
    width = cv2.getTextSize(text, FONT, 1, 2)[0][0] * height / CAP_HEIGHT
    return np.array([width + 0.9 * height, 1.8 * height])


def write_text(image, text: str, left_bottom, height: float, color, width: float) -> None:
    """Write text; replace its middle by an ellipsis if it is wider than `width` pixels."""
    # OpenCV's font covers ASCII only.
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
