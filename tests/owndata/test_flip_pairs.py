"""Mirror images guessed from names, compared with `swap` of MMPose's own sets."""

from pathlib import Path

import pytest

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.imaging import sides
from hrformer_mmpose.imaging.skeleton import COCO, Skeleton
from hrformer_mmpose.owndata import flip_pairs

SURE = {  # sets whose names all say their side, or that they have none
    'aic': 6, 'ap10k': 7, 'coco': 8, 'crowdpose': 6, 'halpe26': 11, 'mpii': 6, 'ochuman': 8,
    'animalpose': 8, 'ak': 8, 'atrw': 6, 'macaque': 8, 'jhmdb': 6, 'fly': 14, 'zebra': 2,
    'interhand3d': 21, 'mpii_trb': 19, 'posetrack18': 7, 'humanart': 8,
}  # fmt: skip
PARTLY = {  # pairs, names that are unsure
    'coco_wholebody': (32, 68), 'halpe': (32, 68), 'coco_wholebody_hand': (0, 21),
    'onehand10k': (0, 21), 'horse10': (0, 22), 'wflw': (0, 98), 'locust': (15, 2),
}  # fmt: skip


def mmpose_sets() -> list[Path]:
    mmpose = pytest.importorskip('mmpose')
    folder = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets'
    return sorted(folder.glob('*.py'))


def names_and_swaps(path: Path) -> tuple[list[str], list[int]]:
    from mmengine.config import Config

    info = Config.fromfile(path).dataset_info.keypoint_info
    entries = [info[key] for key in sorted(info, key=int)]
    names = [entry['name'] for entry in entries]
    swaps = [names.index(e['swap']) if e.get('swap') else k for k, e in enumerate(entries)]
    return names, swaps


def test_every_set_of_mmpose_is_right_or_unsure():
    paths = mmpose_sets()
    assert {*SURE, *PARTLY} <= {path.stem for path in paths}
    for path in paths:
        names, swaps = names_and_swaps(path)
        guess = flip_pairs.guess(names)
        for k, name in enumerate(names):
            assert guess.indices[k] == swaps[k] or name in guess.unsure, f'{path.stem}: {name}'
        if path.stem in SURE:
            assert (len(guess.pairs()), guess.unsure) == (SURE[path.stem], ()), path.stem
        if path.stem in PARTLY:
            assert (len(guess.pairs()), len(guess.unsure)) == PARTLY[path.stem], path.stem


@pytest.mark.parametrize(
    ('left', 'right'),
    [
        ('left_x', 'right_x'), ('x_left', 'x_right'), ('l_x', 'r_x'), ('x_l', 'x_r'),
        ('LeftX', 'RightX'), ('xLeft', 'xRight'), ('left x', 'right x'), ('L-x', 'R-x'),
        ('x.L', 'x.R'), ('LHip', 'RHip'), ('hipL', 'hipR'), ('LEFT_X', 'RIGHT_X'),
        ('leftx', 'rightx'), ('xleft', 'xright'), ('L_F_Paw', 'R_F_Paw'), ('wing 1L', 'wing 1R'),
        ('left_hip_1', 'right_hip_1'), ('Ohr links', 'Ohr rechts'),
        ('ojo izquierdo', 'ojo derecho'),
        ('œil gauche', 'œil droit'), ('左眼', '右眼'), ('левая рука', 'правая рука'),
        ('lft_ear', 'rgt_ear'), ('left-eye', 'right_eye'),
    ],
)  # fmt: skip
def test_spellings(left, right):
    names = [right, 'middle', left]
    guess = flip_pairs.guess(names)
    assert guess.indices == (2, 1, 0)
    assert guess.unsure == ()
    skeleton = Skeleton(tuple(names), (), guess.indices)
    assert [skeleton.side(k) for k in range(3)] == ['right', 'middle', 'left']


@pytest.mark.parametrize(
    ('names', 'pairs', 'unsure'),
    [
        (['leye', 'reye', 'nose'], [(0, 1)], ['leye', 'reye']),
        (['RX', 'LX', 'Y'], [(0, 1)], ['RX', 'LX']),
        (['lip', 'nose', 'tail'], [], ['lip', 'nose', 'tail']),  # none has a side
        (['left_eye', 'nose', 'l_ear', 'r_ear'], [(2, 3)], ['left_eye']),  # no counterpart
        (['left_eye', 'LeftEye', 'right_eye'], [], ['left_eye', 'LeftEye', 'right_eye']),
        (['l_eye', 'r_eye', 'p1', 'p2', 'q1'], [(0, 1)], ['p1', 'p2']),
        (['tip'], [], []),
    ],
)
def test_what_is_unsure_is_told(names, pairs, unsure):
    guess = flip_pairs.guess(names)
    assert guess.pairs() == pairs
    assert set(guess.unsure) == set(unsure)


def test_coco_is_drawn_as_before():
    expected = [
        next((s for s in ('left', 'right') if n.startswith(s)), 'middle') for n in COCO.names
    ]
    assert [COCO.side(k) for k in range(17)] == expected


def test_parts():
    assert sides.part('L_Eye') == sides.part('right eye') == sides.part('eye') == 'eye'
    assert sides.part('left_big_toe') == 'big_toe'


def test_flips_of_the_file_win_and_contradictions_are_unsure():
    names = ['l_a', 'r_a', 'l_b', 'r_b', 'c']
    flips = flip_pairs.stated(names, [0, 1, 3, 2, 4], flip_pairs.guess(names))
    assert flips.indices == (0, 1, 3, 2, 4)
    assert flips.unsure == ('l_a', 'r_a')


def test_pairs_of_the_command_line():
    names = ['a', 'b', 'c']
    assert flip_pairs.from_pairs(names, ['a:c']).indices == (2, 1, 0)
    assert flip_pairs.from_pairs(names, ['none']).indices == (0, 1, 2)
    for entry, words in [
        (['a'], 'NAME:NAME'),
        (['a:a'], 'NAME:NAME'),
        (['a:d'], "named 'd'"),
        (['a:b', 'b:c'], 'one pair only'),
    ]:
        with pytest.raises(ConfigError, match=words):
            flip_pairs.from_pairs(names, entry)
