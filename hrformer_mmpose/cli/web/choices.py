"""Choices of the page for a video."""

from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DataError
from ...inference.smoothing import FILTERS
from ..predict.arguments import MAX_DETECT_EVERY, Options
from .pictures import check_boxes

DETECT, DRAWN, WHOLE = 'detect', 'drawn', 'whole'  # where people are


@dataclass(frozen=True)
class Choices:
    """Choices of the page for a video.

    Attributes:
        people: 'detect' on each N-th frame; 'drawn' boxes of the first frame, followed from there;
            'whole': each frame shows one person from edge to edge.
        boxes: drawn ones, x0, y0, x1, y1 in pixels.

    Other attributes: see `hrformer predict`.
    """

    people: str
    boxes: list[list[float]]
    detect_every: int
    track: bool
    smooth: str | None
    color_by: str
    threshold: float

    @classmethod
    def read(cls, people, boxes, detect_every, track, smooth, color_by, threshold) -> 'Choices':
        """Check the values that the browser sends.

        Raises:
            DataError: a value is none of those that the page offers.
        """
        offered = people in (DETECT, DRAWN, WHOLE) and color_by in ('side', 'id')
        if not offered or smooth not in (None, *FILTERS):
            raise DataError('reload the page: it sends choices that it does not offer')
        if not isinstance(detect_every, int | float) or not 1 <= detect_every <= MAX_DETECT_EVERY:
            raise DataError(f'detection: give a number of frames from 1 to {MAX_DETECT_EVERY:,}')
        if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise DataError('threshold: give 0 to 1')
        rows = check_boxes(boxes) if people == DRAWN else []
        if people == DRAWN and not rows:
            raise DataError('draw a box around each person on the first frame')
        return cls(people, rows, int(detect_every), bool(track), smooth, color_by, threshold)

    def options(self, options: Options, folder: Path) -> Options:
        """Return the options of `hrformer predict`."""
        return replace(
            options,
            out=folder,
            detect_every=self.detect_every if self.people == DETECT else 1,
            track=self.track or self.smooth is not None or self.color_by == 'id',
            smooth=self.smooth,
            color_by=self.color_by,
            threshold=self.threshold,
        )
