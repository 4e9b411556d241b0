"""Names of TokenPose and TransPose, and files that do not fit."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config

from hrformer_mmpose.checkpoint import architecture, match, origin, to_mmpose, to_official
from hrformer_mmpose.checkpoint.state_dict_adapter import num_keypoints
from hrformer_mmpose.cli import convert_checkpoint
from hrformer_mmpose.errors import WeightsError
from tests import pose_transformers as recorded

pytestmark = pytest.mark.usefixtures('no_init')
TRUNKS = {
    'tokenpose_s': 'HRNet up to stage 1',
    'tokenpose_b': 'HRNet-W32 up to stage 3',
    'tokenpose_l': 'HRNet-W48 up to stage 3',
    'transpose_r': 'ResNet up to layer 2',
    'transpose_h': 'HRNet-W48 up to stage 3',
}


def empty(name: str) -> dict[str, torch.Tensor]:
    """Entries of the authors, without values."""
    return {key: torch.empty(shape) for key, shape in recorded.entries(name).items()}


def shapes(state: dict) -> dict:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    'name', recorded.networks('tokenpose_s_v1', 'tokenpose_l_d6', 'transpose_r_a3')
)
def test_the_authors_lists_become_ours_and_back(name):
    weights = empty(name)
    converted = to_mmpose(weights)
    assert shapes(converted) == shapes(recorded.build(name).state_dict())
    assert shapes(to_official(converted)) == shapes(weights)
    assert list(to_mmpose(converted)) == list(converted)
    assert list(to_official(weights)) == list(weights)
    kind = name[:9]
    assert origin(weights) == f'official-{kind}'
    assert origin(converted) == 'mmpose'
    for state in (weights, converted):
        assert architecture(state) == TRUNKS[name[:11]]
        assert num_keypoints(state) == 17


def refusal(file: str, config: str) -> str:
    with pytest.raises(WeightsError) as error:
        match(empty(file), recorded.build(config), 'file.pth')
    assert '\n' not in str(error.value)
    return str(error.value)


QUICK_REFUSALS = [
    (
        'tokenpose_l_d6',
        'tokenpose_l_d24',
        "'file.pth' holds a TokenPose head of 2+2+2 layers for 256 patches, the config builds "
        'a TokenPose head of 8+8+8 layers for 256 patches: take the config',
    ),
    ('transpose_r_a4', 'transpose_r_a3', 'holds a TransPose head of 4 layers for 768 pixels'),
    ('tokenpose_l_d6', 'tokenpose_b', 'holds HRNet-W48 up to stage 3, the config builds'),
    ('tokenpose_s_v2', 'tokenpose_s_v1', 'of 12 layers for 768 patches, the config builds'),
]
SLOW_REFUSALS = [
    ('tokenpose_l_d24', 'tokenpose_l_d6', 'of 8+8+8 layers for 256 patches, the config'),
    ('transpose_h_a6', 'transpose_h_a4', 'holds a TransPose head of 6 layers for 3072 pixels'),
    ('tokenpose_b', 'tokenpose_l_d24', 'holds HRNet-W32 up to stage 3, the config builds'),
    ('transpose_r_a4', 'transpose_h_a4', 'holds ResNet up to layer 2, the config builds'),
    ('tokenpose_s_v1', 'tokenpose_b', 'holds HRNet up to stage 1, the config builds'),
    ('tokenpose_l_d24_384', 'tokenpose_l_d24', 'for 288 patches, the config builds'),
    ('transpose_h_a6', 'tokenpose_l_d24', 'holds a TransPose head of 6 layers'),
]


@pytest.mark.parametrize(
    ('file', 'config', 'message'),
    QUICK_REFUSALS + [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_REFUSALS],
)
def test_a_file_of_another_network(file, config, message):
    assert message in refusal(file, config)


def test_a_file_of_other_keypoints():
    weights = empty('tokenpose_s_v1')
    weights['features.keypoint_token'] = torch.empty(1, 14, 192)
    with pytest.raises(
        WeightsError, match='predicts 14 keypoints, the config builds a head for 17'
    ):
        match(weights, recorded.build('tokenpose_s_v1'), 'file.pth')


@pytest.mark.parametrize('key', ['features.keypoint_token', 'features.pos_embedding'])
def test_entries_of_other_dimensions(key):
    weights = empty('tokenpose_s_v1') | {key: torch.empty(())}
    with pytest.raises(WeightsError, match=r'does not fit the config|the config builds'):
        match(weights, recorded.build('tokenpose_s_v1'), 'file.pth')


def test_a_file_that_lacks_a_block_can_not_be_tested():
    weights = empty('tokenpose_s_v1')
    del weights['features.transformer.layers.3.0.fn.norm.weight']
    with pytest.raises(WeightsError, match=r'holds no weights for head \(1 entries\)'):
        match(weights, recorded.build('tokenpose_s_v1'), 'file.pth', complete=True)


def test_the_log_says_what_was_read():
    weights = recorded.state_dict('tokenpose_s_v1')
    result = match(weights, recorded.build('tokenpose_s_v1'), 'file.pth')
    assert result.lines[0] == (
        "recognised 'file.pth': HRNet up to stage 1 with a TokenPose head of 12 layers for 256 "
        'patches, 17 keypoints, origin official-tokenpose'
    )
    assert result.lines[1] == f'converted: {len(weights)} names'


def test_a_trunk_of_a_pose_transformer_starts_another_head():
    """HRNet-W48 of TokenPose-L under a TransPose head, which keeps its initial values."""
    weights = {k: v for k, v in to_mmpose(empty('tokenpose_l_d24')).items() if k[:8] == 'backbone'}
    result = match(weights, recorded.build('transpose_h_a4'), 'file.pth')
    assert result.lines[-1] == 'not in the file, initialised anew: head (52 entries)'


def test_conversion_on_the_command_line(tmp_path, capsys):
    torch.save(recorded.state_dict('transpose_r_a3'), tmp_path / 'authors.pth')
    for source, target, to in (('authors', 'ours', 'mmpose'), ('ours', 'back', 'official')):
        arguments = [str(tmp_path / f'{source}.pth'), str(tmp_path / f'{target}.pth'), '--to', to]
        convert_checkpoint.run(convert_checkpoint.parser().parse_args(arguments))
        printed = capsys.readouterr().out
        assert 'origin        official-transpose' in printed
        assert 'architecture  ResNet up to layer 2' in printed
        assert 'keypoints     17' in printed
    back = torch.load(tmp_path / 'back.pth')['state_dict']
    before = recorded.state_dict('transpose_r_a3')
    assert list(back) == list(before)
    assert all(torch.equal(back[key], value) for key, value in before.items())


def test_the_head_on_hrformer_takes_a_backbone_of_hrformer(tmp_path):
    from mmpose.registry import MODELS

    from hrformer_mmpose import zoo

    cfg: Config = zoo.read_config('hrformer_small_tokenpose_coco_256x192')
    cfg.model.backbone.pop('init_cfg')
    model = MODELS.build({**cfg.model, '_scope_': 'mmpose'})
    state = model.state_dict()
    assert origin(state) == 'mmpose'
    assert architecture(state) == 'HRFormer-S'
    assert num_keypoints(state) == 17
    assert list(to_mmpose(to_official(state))) == list(state)
    backbone = {key: value for key, value in state.items() if key.startswith('backbone.')}
    result = match(backbone, model, 'file.pth')
    assert result.lines[-1] == 'not in the file, initialised anew: head (144 entries)'
