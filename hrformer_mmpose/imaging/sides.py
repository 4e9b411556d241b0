"""Left and right in the names of keypoints, in common spellings.

A name is read as words: `L_Eye`, `l-eye`, `leftEye`, `eye left` and `LEye` have a word for the
side. The rest of the words is the part, equal for both sides.
"""

import re
from collections.abc import Iterator

OPPOSITES = (
    ('left', 'right'), ('l', 'r'), ('lft', 'rgt'), ('lt', 'rt'), ('lh', 'rh'),
    ('links', 'rechts'), ('linker', 'rechter'), ('linke', 'rechte'), ('linkes', 'rechtes'),
    ('gauche', 'droite'), ('gauche', 'droit'), ('izquierdo', 'derecho'), ('izquierda', 'derecha'),
    ('sinistro', 'destro'), ('sinistra', 'destra'), ('esquerdo', 'direito'),
    ('esquerda', 'direita'), ('левый', 'правый'), ('левая', 'правая'), ('левое', 'правое'),
    ('左', '右'), ('왼쪽', '오른쪽'),
)  # fmt: skip
SIDE_OF = {word: side for pair in OPPOSITES for side, word in enumerate(pair)}
LEFT, RIGHT = 0, 1
# Written without a delimiter (lefteye, 左眼); short words would be found within other words.
FUSED = (('left', 'right'), ('左', '右'), ('왼쪽', '오른쪽'))
WORD = re.compile(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+')

Key = tuple[str, ...]


def words(name: str) -> Key:
    """Split a name at delimiters, digits and capitals, in lower case: `LeftEye2` -> left eye 2."""
    return tuple(word.lower() for word in WORD.findall(name))


def part(name: str) -> str:
    """Return the words of a name without those for a side: `L_Eye` -> `eye`."""
    return '_'.join(word for word in words(name) if word not in SIDE_OF)


def canonical(name: str) -> str:
    """Return a name without case, delimiters and language of its side.

    `L-Eye`, `LeftEye` and `left_eye` -> `lefteye`. Numbers stay apart: `p_1_1` is not `p_11`.
    """
    named = (('left', 'right')[SIDE_OF[w]] if w in SIDE_OF else w for w in words(name))
    return ''.join(f'{word}_' if word.isdigit() else word for word in named)


def by_word(name: str) -> Iterator[tuple[int, Key]]:
    """Yield side and rest of a name for each of its words that is a side."""
    parts = words(name)
    for place, word in enumerate(parts):
        if word in SIDE_OF:
            yield SIDE_OF[word], (*parts[:place], '*', *parts[place + 1 :])


def fused(name: str) -> Iterator[tuple[int, Key]]:
    """Yield side and rest of a name with a side inside a word: `lefteye`, `左眼`."""
    joined = ' '.join(words(name))
    for pair in FUSED:
        for side, word in enumerate(pair):
            for match in re.finditer(word, joined):
                yield side, (joined[: match.start()], '*', joined[match.end() :])


def by_letter(name: str) -> Iterator[tuple[int, Key]]:
    """Yield side and rest of a name whose first or last letter may be a side: `leye`, `eyer`."""
    joined = ' '.join(words(name))
    for side, letter in enumerate('lr'):
        if joined.startswith(letter):
            yield side, ('*', joined[1:])
        if joined.endswith(letter):
            yield side, (joined[:-1], '*')


def side(name: str, mirror: str) -> str:
    """Return 'left', 'right' or 'middle': the side of a keypoint, given its mirror image's name."""
    for spelling in (by_word, fused, by_letter):
        opposite = set(spelling(mirror))
        for number, rest in spelling(name):
            if (1 - number, rest) in opposite:
                return ('left', 'right')[number]
    return 'middle'
