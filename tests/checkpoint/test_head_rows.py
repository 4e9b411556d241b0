"""Rows of a head go by the names of the keypoints, and only where a name says so."""

import json

import pytest
import torch
from torch import nn

from hrformer_mmpose.checkpoint import files as checkpoint_files
from hrformer_mmpose.checkpoint import load_weights, match, save_weights, to_official
from hrformer_mmpose.checkpoint.head_rows import Keypoints, names_in, names_in_file
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.imaging import sides
from hrformer_mmpose.imaging.skeleton import COCO
from tests.checkpoint.test_matching import Estimator

FIVE = ('Nose', 'L_Hand', 'R_Hand', 'L_Foot', 'R_Foot')
EIGHT = ('tail', 'right hand', 'neck', 'nose', 'left_ear', 'right_ear', 'leftHand', 'hip')


def started(source: Estimator, model: Estimator, file, network, **options):
    """Match as a training does at its start; return the line on the head, and its rows before."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = options.pop('weights', source.state_dict())
    result = match(weights, model, 'file.pth', keypoints=Keypoints(network, file), **options)
    result.load_into(model)
    lines = [line for line in result.lines if line.startswith('head: ')]
    assert len(lines) < 2
    assert not any('\n' in line for line in lines)
    return (lines or [None])[0], before


def assert_rows(model, before, source, pairs):
    """`pairs`: rows of the network and of the file; the others are as they were."""
    for part in ('weight', 'bias'):
        rows = getattr(model.head.final_layer, part)
        for k, row in enumerate(rows):
            theirs = getattr(source.head.final_layer, part)[pairs[k]] if k in pairs else None
            expected = before[f'head.final_layer.{part}'][k] if theirs is None else theirs
            assert torch.equal(row, expected)


def test_shared_names_take_their_rows():
    source, model = Estimator(5), Estimator(8)
    line, before = started(source, model, FIVE, EIGHT)
    assert line == (
        "head: rows of right hand, nose, leftHand taken from 'file.pth'; 5 keypoints start anew: "
        'tail, neck, left_ear, right_ear, hip'
    )
    assert_rows(model, before, source, {1: 2, 3: 0, 6: 1})
    assert torch.equal(model.backbone.conv2.weight, source.backbone.conv2.weight)


def test_a_file_that_is_refused_later_leaves_the_network_as_it_is():
    source, model = Estimator(5), Estimator(8)
    weights = source.state_dict()
    weights['backbone.conv2.weight'] = torch.zeros(3, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError):
        started(source, model, FIVE, EIGHT, weights=weights)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    result = match(source.state_dict(), model, 'file.pth', keypoints=Keypoints(EIGHT, FIVE))
    assert {'head.final_layer.weight', 'head.final_layer.bias'} <= {*result.state}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_as_many_keypoints_in_another_order():
    source, model = Estimator(5), Estimator(5)
    line, before = started(source, model, FIVE, FIVE[::-1])
    assert line.endswith("taken from 'file.pth'; none starts anew")
    assert_rows(model, before, source, {k: 4 - k for k in range(5)})
    other = ('Nose', 'Tail', 'R_Hand', 'L_Foot', 'R_Foot')
    model = Estimator(5)
    line, before = started(source, model, FIVE, other)
    assert line.endswith('1 keypoint starts anew: Tail')
    assert_rows(model, before, source, {0: 0, 2: 2, 3: 3, 4: 4})


def test_the_same_keypoints_need_no_line():
    source, model = Estimator(5), Estimator(5)
    line, before = started(source, model, FIVE, ('nose', 'left-hand', 'RHand', 'lFoot', 'foot_r'))
    assert line is not None  # `foot_r` is written the other way round
    line, before = started(source, model, FIVE, ('nose', 'left-hand', 'RHand', 'lFoot', 'r foot'))
    assert line is None
    assert_rows(model, before, source, {k: k for k in range(5)})


def test_no_keypoint_is_shared():
    model = Estimator(3)
    line, before = started(Estimator(5), model, FIVE, ('a', 'b', 'c'))
    assert line.startswith("head: no row of 'file.pth' is taken, since it has none of these")
    assert line.endswith('keypoints; all 3 start anew')
    assert_rows(model, before, None, {})


@pytest.mark.parametrize('names', [dict, to_official], ids=['mmpose', 'official'])
def test_seventeen_rows_without_names_are_cocos(names):
    source, model = Estimator(17), Estimator(8)
    weights = names(source.state_dict())
    line, before = started(source, model, None, EIGHT, weights=weights)
    assert line == (
        "head: rows of nose, left_ear, right_ear taken from 'file.pth' (it names no keypoints, and "
        "17 are taken for COCO's); 5 keypoints start anew: tail, right hand, neck, leftHand, hip"
    )
    assert_rows(model, before, source, {3: 0, 4: 3, 5: 4})
    line, before = started(source, Estimator(17), None, COCO.names, weights=weights)
    assert line is None


@pytest.mark.parametrize(
    ('rows', 'file', 'why'),
    [
        (5, None, 'it names no keypoints'),
        (5, (), 'its keypoint names are damaged'),
        (17, (), 'its keypoint names are damaged'),
        (4, FIVE, 'its 5 keypoint names do not go with 4 rows'),
    ],
)
def test_rows_of_unknown_names_are_not_taken(rows, file, why):
    model = Estimator(8)
    line, before = started(Estimator(rows), model, file, EIGHT)
    assert line == f"head: no row of 'file.pth' is taken, since {why}; all 8 start anew"
    assert_rows(model, before, None, {})


def test_as_many_rows_without_names_stay_in_their_order():
    source, model = Estimator(5), Estimator(5)
    line, before = started(source, model, None, FIVE)
    assert line == (
        "head: the rows of 'file.pth' are taken in their order, since it names no keypoints"
    )
    assert_rows(model, before, source, {k: k for k in range(5)})


def test_seventeen_rows_of_an_unknown_network_are_nobodys():
    class Plain(nn.Module):
        def __init__(self, keypoints):
            super().__init__()
            self.backbone, self.head = nn.Conv2d(3, 4, 1), nn.Module()
            self.head.final_layer = nn.Conv2d(4, keypoints, 1)

    model = Plain(8)
    line, before = started(Plain(17), model, None, EIGHT)
    assert 'since it names no keypoints; all 8' in line
    assert_rows(model, before, None, {})


def test_three_maps_a_keypoint():
    """UDP's combined maps: a disc and two offsets for each."""
    source, model = Estimator(15), Estimator(24)
    line, before = started(source, model, FIVE, EIGHT)
    assert line.startswith('head: rows of right hand, nose, leftHand taken')
    rows = {1: 2, 3: 0, 6: 1}
    pairs = {3 * k + m: 3 * f + m for k, f in rows.items() for m in range(3)}
    assert_rows(model, before, source, pairs)


def test_half_precision_rows():
    source, model = Estimator(5), Estimator(8)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    started(source, model, FIVE, EIGHT, weights=weights)
    row = weights['head.final_layer.weight'][0].float()
    assert torch.equal(model.head.final_layer.weight[3], row)
    weights['head.final_layer.weight'] = weights['head.final_layer.weight'].to(torch.int8)
    with pytest.raises(WeightsError, match='as int8'):
        started(source, model, FIVE, EIGHT, weights=weights)


def test_a_head_that_differs_in_more_is_refused():
    source = Estimator(5)
    source.head.final_layer = nn.Conv2d(8, 5, 1)
    with pytest.raises(WeightsError, match=r'init_cfg\.prefix=backbone'):
        started(source, Estimator(8), FIVE, EIGHT)


def test_names_that_read_alike_are_told_apart():
    """`l_eye` and `left_eye` in one set: nothing is guessed."""
    names = ('left_eye', 'l_eye', 'nose')
    model = Estimator(3)
    line, before = started(source := Estimator(2), model, ('l_eye', 'nose'), names)
    assert 'rows of nose taken' in line
    assert_rows(model, before, source, {2: 1})


def test_tests_know_no_names():
    """Without names, or with names of another number, a head of another size is refused."""
    for keypoints in (None, Keypoints((), FIVE), Keypoints(EIGHT[:7], FIVE)):
        with pytest.raises(WeightsError, match='predicts 5 keypoints, the config builds a head'):
            match(Estimator(5).state_dict(), Estimator(8), 'file.pth', keypoints=keypoints)


def test_spellings():
    alike = ['left_eye', 'LeftEye', 'lefteye', 'L-Eye', 'left eye', 'LEFT_EYE', 'links_eye']
    assert {sides.canonical(name) for name in alike} == {'lefteye'}
    apart = ['leye', 'left_ear', 'right_eye', 'eye', 'p_1_1', 'p_11', 'p_1', '左', 'глаз']
    assert len({sides.canonical(name) for name in apart}) == len(apart)


# What files say.


def meta(names) -> dict:
    return dict(meta=dict(dataset_meta=dict(keypoint_id2name=dict(enumerate(names)))))


DAMAGED = [
    dict(meta=dict(dataset_meta=3)),
    dict(meta=dict(dataset_meta=[1])),
    dict(meta=dict(dataset_meta=dict(keypoint_id2name=None))),
    dict(meta=dict(dataset_meta=dict(keypoint_id2name=['nose']))),
    dict(meta=dict(dataset_meta=dict(keypoint_id2name={1: 'nose'}))),
    dict(meta=dict(dataset_meta=dict(keypoint_id2name={'0': 'nose'}))),
    dict(meta=dict(dataset_meta=dict(keypoint_id2name={0: torch.ones(2), 1: 'nose'}))),
    meta(['nose', 'nose']),
    dict(meta=dict(keypoints='nose')),
    dict(meta=dict(keypoints='[' * 100_000)),
    dict(meta=dict(keypoints='[1]')),
    dict(meta=dict(keypoints=7)),
]


@pytest.mark.parametrize('content', DAMAGED)
def test_damaged_names(content):
    assert names_in_file(content) == ()


def test_names_of_files():
    assert names_in_file(meta(FIVE)) == FIVE
    for content in (
        None,
        [1],
        {},
        dict(meta=None),
        dict(meta={}),
        dict(meta=dict(dataset_meta={})),
    ):
        assert names_in_file(content) is None
    assert names_in(dict(classes=('cat', 'dog'))) is None


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_weights_alone_keep_the_names(tmp_path, ending):
    if ending == 'safetensors':
        pytest.importorskip('safetensors')
    path = tmp_path / f'file.{ending}'
    names = ('нос', 'a,"b"', 'c\\d')
    save_weights(Estimator(3).state_dict(), path, 'mmpose', keypoints=names)
    content = checkpoint_files.read(path)
    assert names_in_file(content) == names
    assert json.loads(content['meta']['keypoints']) == [*names]
    assert len(load_weights(path)['head.final_layer.bias']) == 3
