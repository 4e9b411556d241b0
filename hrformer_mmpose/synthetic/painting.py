"""Painting of synthetic people."""

from .canvas import PART_BASE, Canvas
from .head import head_parts
from .limbs import arm_parts, leg_parts
from .people import Person
from .trunk import trunk_parts


def paint_person(canvas: Canvas, person: Person, number: int) -> None:
    """Draw a placed person, from the farthest part to the nearest.

    Args:
        canvas: canvas to draw on.
        person: person with `scale` and `offset`.
        number: of the person in the id map, 1 to 7.
    """
    parts = trunk_parts(person) + head_parts(person)
    for side in range(2):
        parts += arm_parts(person, side) + leg_parts(person, side)
    for _, part, layers in sorted(parts, key=lambda entry: entry[0]):
        owner = number * PART_BASE + part
        for points, color in layers:
            canvas.polygon(points, color, owner)
