"""Scenes of the synthetic data set: background, placement of people, occluding objects."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas, capsule
from .looks import random_color, tone
from .painting import paint_person
from .people import Person, make_person

_MAX_OVERLAP = 0.1


def draw_scene(
    rng: np.random.Generator, image_size: tuple[int, int], crowded: bool = True
) -> tuple[np.ndarray, np.ndarray, list[Person]]:
    """Draw a background, one to four people and sometimes occluding objects.

    Args:
        rng: random generator.
        image_size: typical (width, height) in pixels.
        crowded: allow several people, occlusion and truncation.

    Returns:
        (H, W, 3) BGR uint8 image; (H, W) uint8 id map; the people, number n of the id map at index
        n - 1.
    """
    width, height = (int(n * rng.uniform(0.88, 1.12)) for n in image_size)
    canvas = Canvas(background(rng, width, height))
    people = _place(rng, width, height, crowded)
    for number, person in enumerate(people, 1):
        paint_person(canvas, person, number)
        if crowded and rng.random() < 0.07:
            occlude(canvas, rng, person)
    return _photograph(rng, canvas.image), canvas.ids, people


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Draw a (height, width, 3) BGR uint8 image of gradients, texture and clutter."""
    # Upsampled random colours: gradients from the coarsest grid, texture from the others.
    image = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((2, 1.0), (6, 0.35), (rng.integers(12, 60), 0.2)):
        coarse = rng.uniform(-110, 110, (cells, cells, 3)).astype(np.float32) * strength
        gray = coarse.mean(2, keepdims=True)
        coarse = gray + (coarse - gray) * np.float32(rng.choice((0.0, 0.3, 0.8)))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image + rng.uniform(80, 180), 0, 255).astype(np.uint8)
    canvas = Canvas(image)
    if rng.random() < 0.5:
        _floor(canvas, rng)
    for _ in range(rng.integers(3, 13)):
        clutter(canvas, rng, rng.uniform((0, 0), (width, height)), height * rng.uniform(0.03, 0.25))
    return image


def _floor(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw a floor, sometimes with planks."""
    height, width = canvas.ids.shape
    top, color = height * rng.uniform(0.45, 0.85), random_color(rng)
    canvas.polygon([(0, top), (width, top), (width, height), (0, height)], color)
    for x in np.arange(0, width, rng.uniform(12, 60)) if rng.random() < 0.5 else ():
        canvas.polygon(capsule((x, top), (1.6 * x - 0.3 * width, height), 0.5, 1), tone(color, 0.8))


def clutter(canvas: Canvas, rng: np.random.Generator, center, size: float) -> None:
    """Draw a random object.

    Args:
        canvas: canvas to draw on.
        rng: random generator.
        center: (2,) pixels.
        size: approximate radius in pixels.
    """
    color, kind = random_color(rng), rng.integers(5)
    turn = rng.uniform(0, np.pi)
    axis = np.array([np.cos(turn), np.sin(turn)])
    if kind == 0:  # a box
        half = size * rng.uniform(0.3, 1.0, 2)
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
        canvas.polygon(center + corners, color)
        canvas.polygon(center + corners * 0.8, tone(color, rng.uniform(0.7, 1.3)))
    elif kind == 1:  # a ball or a blob
        radius = size * rng.uniform(0.3, 0.8)
        shift = axis * size * rng.uniform(0, 0.6)
        canvas.polygon(capsule(center, center + shift, radius, radius * 0.8), color)
        canvas.polygon(capsule(center, center, radius * 0.6, radius * 0.6), tone(color, 1.2))
    elif kind == 2:  # a long line
        reach = axis * size * 3
        width = rng.uniform(0.5, 3)
        canvas.polygon(capsule(center - reach, center + reach, width, width), color)
    elif kind == 3:  # a shard
        canvas.polygon(center + rng.uniform(-size, size, (5, 2)), color)
    else:  # jointed sticks, as distractors for limbs
        _sticks(canvas, rng, center, axis * size, color)


def _sticks(canvas: Canvas, rng: np.random.Generator, start, along, color) -> None:
    """Draw two or three connected sticks that resemble a limb."""
    radius = np.linalg.norm(along) * rng.uniform(0.12, 0.25)
    for _ in range(rng.integers(2, 4)):
        end = start + along
        canvas.polygon(capsule(start, end, radius, radius * 0.8), tone(color, 0.75))
        canvas.polygon(capsule(start, end, radius * 0.66, radius * 0.5), color)
        start, radius = end, radius * 0.8
        along = along @ np.array(((0.6, 0.8), (-0.8, 0.6))) * rng.choice((-1, 1))


def _place(rng: np.random.Generator, width: int, height: int, crowded: bool) -> list[Person]:
    """Create and place people with little overlap, sorted from far to near."""
    count = int(rng.choice((1, 2, 3, 4), p=(0.34, 0.36, 0.2, 0.1))) if crowded else 1
    people: list[Person] = []
    for _ in range(count * 4):
        person = make_person(rng)
        person.scale = height * rng.uniform(
            *((0.62, 1.02), (0.5, 0.95), (0.44, 0.8), (0.42, 0.7))[count - 1]
        )
        _put(rng, person, width, height, truncated=crowded and rng.random() < 0.07)
        if all(_overlap(person, other) < _MAX_OVERLAP for other in people):
            people.append(person)
        if len(people) == count:
            break
    # Larger people are usually nearer.
    return sorted(people, key=lambda person: person.scale * rng.uniform(0.8, 1.25))


def _put(rng, person: Person, width: int, height: int, truncated: bool) -> None:
    """Set a person's offset: inside the image or, if `truncated`, partly outside."""
    person.offset = (0.0, 0.0)
    low, high = person.extent()
    frame = np.array([width - 1, height - 1])
    fit = float(min(1.0, 0.999 * (frame / (high - low)).min()))
    person.scale *= fit
    low, high = low * fit, high * fit
    offset = rng.uniform(-low, frame - high)
    if truncated:
        # Truncate at the left, right or bottom; truncation at the top would often hide the face.
        axis, end = ((0, -1), (0, 1), (1, 1))[rng.integers(3)]
        beyond = (high - low)[axis] * rng.uniform(0.08, 0.36)
        offset[axis] = (frame - high)[axis] + beyond if end > 0 else -low[axis] - beyond
    person.offset = (float(offset[0]), float(offset[1]))


def _overlap(a: Person, b: Person) -> float:
    """Return the overlap of two people's boxes as a share of the smaller box."""
    (a_low, a_high), (b_low, b_high) = a.extent(), b.extent()
    shared = np.clip(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0, None).prod()
    return float(shared / min((a_high - a_low).prod(), (b_high - b_low).prod()))


def occlude(canvas: Canvas, rng: np.random.Generator, person: Person) -> None:
    """Draw a pole, a crate or a ball in front of a placed person."""
    low, high = person.extent()
    size, color, kind = high - low, random_color(rng), rng.integers(3)
    if kind == 0:
        x, half = rng.uniform(low[0], high[0]), person.scale * rng.uniform(0.015, 0.045)
        shape = np.array(
            [(x - half, -9), (x + half, -9), (x + half, high[1] + 6), (x - half, high[1] + 6)]
        )
    elif kind == 1:
        left, right = np.sort(rng.uniform(low[0] - 0.3 * size[0], high[0] + 0.3 * size[0], 2))
        top = high[1] - size[1] * rng.uniform(0.1, 0.38)
        shape = np.array([(left, top), (right, top), (right, high[1] + 4), (left, high[1] + 4)])
    else:
        center, radius = (
            person.keypoints[rng.integers(5, 17)],
            person.scale * rng.uniform(0.04, 0.09),
        )
        center = center + rng.normal(0, radius * 0.7, 2)
        shape = capsule(center, center, radius, radius)
    middle = shape.mean(0)
    canvas.polygon(shape, tone(color, 0.8), 0)
    canvas.polygon(middle + (shape - middle) * 0.85, color)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Apply random contrast, brightness, tint, blur and noise to an image."""
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    gain = rng.uniform(0.78, 1.2) * rng.uniform(0.94, 1.06, 3)
    light = image * gain.astype(np.float32) + np.float32(rng.uniform(-16, 22))
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(light + noise[..., None], 0, 255).astype(np.uint8)
