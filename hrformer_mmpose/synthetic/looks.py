"""Colours and clothes of synthetic people."""

import cv2
import numpy as np

_SKIN = (
    (196, 222, 248),
    (160, 194, 236),
    (130, 170, 220),
    (96, 136, 190),
    (62, 96, 150),
    (44, 66, 104),
)
# Bright colours: yellow, orange, cyan, white, green.
_MARKERS = ((60, 225, 245), (40, 150, 250), (240, 220, 70), (245, 245, 245), (90, 230, 120))
_HAIR = ((24, 24, 30), (30, 44, 70), (40, 76, 120), (80, 150, 200), (150, 150, 155), (36, 50, 140))


def tone(color, factor: float) -> tuple[int, int, int]:
    """Lighten (`factor` > 1) or darken a BGR colour."""
    return tuple(int(min(max(c * factor, 0), 255)) for c in color)


def random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a random BGR colour of medium saturation and brightness."""
    hsv = np.array([[[rng.integers(180), rng.integers(30, 230), rng.integers(70, 235)]]], np.uint8)
    return tuple(int(c) for c in cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0])


def random_looks(rng: np.random.Generator, legs_style: int) -> dict:
    """Return random colours and clothes; skirts only with nearly straight legs."""
    top, bottom = random_color(rng), random_color(rng)
    overall = rng.random() < 0.12
    return dict(
        skin=tone(_SKIN[rng.integers(len(_SKIN))], rng.uniform(0.92, 1.04)),
        hair=tone(_HAIR[rng.integers(len(_HAIR))], rng.uniform(0.8, 1.3)),
        top=top,
        bottom=top if overall else bottom,
        shoes=random_color(rng) if rng.random() < 0.5 else (45, 45, 50),
        sleeve=(0.0, 0.55, 2.0)[rng.choice(3, p=(0.12, 0.43, 0.45))],
        trouser=(0.7, 2.0)[rng.choice(2, p=(0.35, 0.65))],
        skirt=bool(legs_style < 3 and rng.random() < 0.16),
        pattern=('plain', 'stripes', 'dots', 'patch')[rng.choice(4, p=(0.45, 0.25, 0.1, 0.2))],
        pattern_color=random_color(rng),
        long_hair=bool(rng.random() < 0.3),
        bald=bool(rng.random() < 0.07),
        hat=random_color(rng) if rng.random() < 0.2 else None,
        marker=_MARKERS[rng.integers(len(_MARKERS))],
    )
