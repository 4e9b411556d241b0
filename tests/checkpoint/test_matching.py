"""What fits a network is loaded, what does not is an error that says both sides."""

import re

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import load_pretrained, match, save_weights, to_official
from hrformer_mmpose.checkpoint import pretrained as plain
from hrformer_mmpose.checkpoint.state_dict_adapter import INDEX, TABLE
from hrformer_mmpose.errors import WeightsError
from tests.checkpoint.weights import ARCH, official_weights, tiny_hrformer
from tests.conftest import relative_error


class Estimator(nn.Module):
    """Backbone and head, named as in MMPose."""

    def __init__(self, keypoints=17, **options):
        super().__init__()
        self.backbone = tiny_hrformer(**options)
        self.head = nn.Module()
        self.head.final_layer = nn.Conv2d(4, keypoints, 1)


def whole(model: Estimator) -> dict:
    return dict(model.state_dict())


@torch.no_grad()
def output(model) -> torch.Tensor:
    return model(torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1)))[0]


def loaded(weights, model, **options):
    result = match(weights, model, 'file.pth', **options)
    result.load_into(model)
    return result


def refused(weights, model, **options) -> str:
    """The error; the network must be as it was."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        loaded(weights, model, **options)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert '\n' not in str(error.value)
    assert "'file.pth'" in str(error.value)
    return str(error.value)


def mmpose_0x(weights: dict) -> dict:
    return {key.replace('head.', 'keypoint_head.'): value for key, value in weights.items()}


@pytest.mark.parametrize(
    'names', [dict, mmpose_0x, to_official], ids=['mmpose', 'mmpose-0.x', 'official']
)
@pytest.mark.parametrize('holder', ['backbone', 'whole'])
@pytest.mark.parametrize('target', ['backbone', 'whole'])
def test_backbones_and_whole_models_load_into_each_other(names, holder, target):
    source = Estimator()
    weights = names(whole(source) if holder == 'whole' else source.backbone.state_dict())
    model = Estimator(official_pose_rpe=True)
    head = model.head.final_layer.weight.clone()
    result = loaded(weights, model if target == 'whole' else model.backbone)
    assert relative_error(output(model.backbone), output(source.backbone)) == 0
    took_head = torch.equal(model.head.final_layer.weight, source.head.final_layer.weight)
    assert took_head == (holder == target == 'whole')
    if not took_head:
        assert torch.equal(model.head.final_layer.weight, head)
    assert len(result.lines) == 4 + (holder == 'backbone' and target == 'whole')
    assert not result.warnings


def test_the_log_says_what_was_done():
    weights = to_official(whole(Estimator()))
    weights = {k: v for k, v in weights.items() if 'rel' not in k}
    weights['optimizer_thing.weight'] = torch.zeros(1)
    result = match(weights, Estimator(with_rpe=False), 'file.pth')
    recognised, converted, taken, left_out = result.lines
    assert recognised.startswith("recognised 'file.pth': HRFormer(channels=(4, 8, 8, 8)")
    assert recognised.endswith('17 keypoints, origin official-pose')
    assert converted == 'converted: query, key and value of 9 blocks joined, FFNs renamed'
    assert taken.startswith('loaded: backbone (')
    assert taken.endswith(' entries), head (2)')
    assert left_out == 'skipped: optimizer_thing (1 entries)'
    assert not result.warnings


def test_index_buffers_are_ours_whatever_the_file_holds():
    weights = tiny_hrformer().state_dict()
    index = 'stage2.0.branches.0.0.attn.attn.relative_position_index'
    for wrong in (weights[index] * 0, torch.zeros(49, 49, dtype=torch.long)):
        model = tiny_hrformer()
        expected = model.state_dict()[index].clone()
        loaded({**weights, index: wrong}, model)
        assert torch.equal(model.state_dict()[index], expected)


def test_maps_of_lower_resolution():
    multiscale, single = tiny_hrformer(multiscale_output=True), tiny_hrformer()
    result = loaded(multiscale.state_dict(), single)
    assert result.lines[3].startswith('skipped: maps of lower resolution (')
    assert relative_error(output(single), output(multiscale)) == 0
    result = loaded(tiny_hrformer().state_dict(), multiscale)
    assert result.lines[4].startswith('not in the file, initialised anew: maps of lower')
    refused(tiny_hrformer().state_dict(), multiscale, complete=True)


# The relative position bias of the authors' pose files, which their code does not add.


def test_an_authors_pose_file_computes_what_their_code_does():
    source = tiny_hrformer()
    weights = to_official(source.state_dict())
    without = tiny_hrformer(with_rpe=False)
    assert not loaded(weights, without).warnings
    model = tiny_hrformer()
    result = loaded(weights, model)
    assert len(result.warnings) == 1
    assert 'official_pose_rpe=True' in result.warnings[0]
    assert relative_error(output(model), output(without)) < 1e-6
    assert relative_error(output(model), output(source)) > 1e-4


def test_the_user_can_take_the_bias_of_an_authors_pose_file():
    source, model = tiny_hrformer(), tiny_hrformer(official_pose_rpe=True)
    assert not loaded(to_official(source.state_dict()), model).warnings
    assert relative_error(output(model), output(source)) == 0


def test_a_converted_file_is_still_the_authors(tmp_path):
    weights = official_weights()
    save_weights(weights, tmp_path / 'converted.pth', 'official-pose')
    assert load_pretrained(tiny_hrformer(), tmp_path / 'converted.pth').warnings


def test_other_origins_keep_their_bias():
    source = tiny_hrformer(multiscale_output=True)
    for weights in (source.state_dict(), to_official(source.state_dict())):
        model = tiny_hrformer()
        assert not loaded(weights, model).warnings
        assert relative_error(output(model), output(source)) == 0
        (warning,) = loaded(weights, tiny_hrformer(with_rpe=False)).warnings
        assert 'with_rpe=False' in warning
        assert 'will differ' in warning


def test_a_file_without_bias_starts_one_at_zero():
    source, model = tiny_hrformer(with_rpe=False), tiny_hrformer()
    (warning,) = loaded(source.state_dict(), model).warnings
    assert 'with_rpe=True' in warning
    assert relative_error(output(model), output(source)) < 1e-6


# What does not fit.


@pytest.mark.parametrize('size', ['base', 'tiny'])
def test_another_size(size):
    weights = HRFormer(arch=size).state_dict()
    line = refused(weights, HRFormer(arch='small'))
    assert f'holds HRFormer-{size[0].upper()}, the config builds HRFormer-S' in line


def test_differences_that_no_shape_shows():
    """More modules than the network has, other heads, another window."""
    weights = tiny_hrformer(arch=dict(ARCH, num_modules=(1, 1, 2, 1))).state_dict()
    assert 'num_modules=(1, 1, 2, 1)' in refused(weights, tiny_hrformer())
    weights = tiny_hrformer(arch=dict(ARCH, num_heads=(1, 4, 2, 2))).state_dict()
    assert 'num_heads=(1, 4, 2, 2)' in refused(weights, tiny_hrformer())
    weights = tiny_hrformer(arch=dict(ARCH, window_sizes=7)).state_dict()
    assert 'window_size=7' in refused(weights, tiny_hrformer())


def test_tables_are_resized_to_other_windows_on_demand():
    source = tiny_hrformer()  # windows of 3: tables of 5x5
    arch = dict(ARCH, window_sizes=5)
    assert 'window_size=3' in refused(source.state_dict(), tiny_hrformer(arch=arch))
    model = tiny_hrformer(arch=arch, resize_rpe=True)
    assert 'window_size=3' in refused(source.state_dict(), model, complete=True)
    result = loaded(source.state_dict(), model)
    tables = [key for key in model.state_dict() if key.endswith(TABLE)]
    assert result.lines[-1] == f'resized to other windows: {len(tables)} bias tables'
    for key in tables:
        square = source.state_dict()[key].reshape(5, 5, -1).numpy()
        expected = cv2.resize(square, (9, 9), interpolation=cv2.INTER_LINEAR).reshape(81, -1)
        assert np.allclose(model.state_dict()[key], expected, atol=1e-6)
    same = tiny_hrformer(resize_rpe=True)
    assert len(loaded(source.state_dict(), same).lines) == 4
    assert torch.equal(same.state_dict()[tables[0]], source.state_dict()[tables[0]])


def test_another_network_altogether():
    weights = {f'layer{i}.0.conv1.weight': torch.zeros(1) for i in (1, 2, 3, 4)}
    line = refused(weights, Estimator())
    assert 'holds ResNet, the config builds HRFormer(' in line
    line = refused({'features.0.weight': torch.zeros(1)}, tiny_hrformer())
    assert 'holds an unknown network (features.0.weight, ...)' in line


def test_a_part_of_the_network():
    weights = tiny_hrformer().state_dict()
    del weights['conv2.weight']
    assert 'conv2.weight is missing' in refused(weights, tiny_hrformer())
    weights = tiny_hrformer().state_dict()
    weights['stage4.0.fuse_layers.0.1.0.weight'] = torch.zeros(4, 1, 1, 1)
    assert 'has another shape' in refused(weights, tiny_hrformer())


def test_another_number_of_keypoints():
    line = refused(whole(Estimator(keypoints=14)), Estimator())
    assert 'predicts 14 keypoints, the config builds a head for 17' in line
    assert 'init_cfg' in line
    loaded(whole(Estimator(keypoints=14)), Estimator().backbone)


def test_another_head():
    model = Estimator()
    model.head.final_layer = nn.Conv2d(8, 17, 1)
    assert 'the head in' in refused(whole(model), Estimator())


def test_a_backbone_alone_cannot_be_tested():
    line = refused(tiny_hrformer().state_dict(), Estimator(), complete=True)
    assert 'holds no weights for head (2 entries)' in line


@pytest.mark.parametrize('part', ['k_proj.weight', 'q_proj.weight', 'v_proj.bias'])
def test_a_projection_of_three_is_missing(part):
    weights = official_weights()
    key = f'stage3.0.branches.1.0.attn.attn.{part}'
    del weights[key]
    assert f'{key} is missing' in refused(weights, tiny_hrformer())


def test_projections_that_do_not_go_together():
    key = 'stage3.0.branches.1.0.attn.attn.k_proj.weight'
    for wrong in (torch.zeros(()), torch.zeros(3, 8), official_weights()[key].char()):
        assert key in refused({**official_weights(), key: wrong}, tiny_hrformer())


@pytest.mark.parametrize('names', [dict, to_official], ids=['mmpose', 'official'])
def test_a_stage_is_missing(names):
    weights = names(tiny_hrformer().state_dict())
    for stage in ('stage3', 'stage4'):
        rest = {key: value for key, value in weights.items() if not key.startswith(stage)}
        line = refused(rest, tiny_hrformer())
        assert f'{stage}.0.' in line or 'holds HRFormer(' in line


@pytest.mark.parametrize('shape', [(), (0,), (0, 0), (1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize('names', [dict, to_official], ids=['mmpose', 'official'])
def test_entries_of_other_dimensions(names, shape):
    """One entry of each kind in the last stage and the head, and all of them."""
    model = Estimator()
    weights = names(whole(model))
    kinds = {re.sub(r'\d+', '0', key): key for key in weights if re.search('stage4|head', key)}
    kinds = [key for key in kinds.values() if not key.endswith((INDEX, 'num_batches_tracked'))]
    for key in [*kinds, None]:
        wrong = {**weights, **dict.fromkeys([key] if key else kinds, torch.zeros(shape))}
        if key and key.endswith(TABLE) and names is to_official:
            loaded(wrong, model)  # theirs does not count
        else:
            refused(wrong, model)


def test_names_with_numbers_that_no_network_has():
    weights = tiny_hrformer().state_dict()
    for number in ('9' * 12, '9' * 5000):
        more = {f'stage4.0.branches.{number}.0.norm1.weight': torch.zeros(1)}
        loaded({**weights, **more}, tiny_hrformer())
        refused({**more, f'stage4.{number}.x.attn.attn.qkv.weight': torch.ones(3)}, tiny_hrformer())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_types_load(dtype):
    source, model = tiny_hrformer(), tiny_hrformer()
    weights = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in source.state_dict().items()
    }
    loaded(weights, model)
    for key, value in model.state_dict().items():
        assert value.dtype == source.state_dict()[key].dtype
        assert torch.equal(value, weights[key].to(value.dtype))


@pytest.mark.parametrize(
    'dtype', [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e5m2]
)
@pytest.mark.parametrize('names', [dict, to_official], ids=['mmpose', 'official'])
def test_other_types_do_not(names, dtype):
    weights = names(tiny_hrformer().state_dict())
    wrong = {**weights, 'conv2.weight': weights['conv2.weight'].to(dtype)}
    line = refused(wrong, tiny_hrformer())
    assert f'conv2.weight as {str(dtype)[6:]}: weights are float16, bfloat16, float32 or' in line
    everything = {
        key: value if key.endswith('tracked') else value.to(dtype) for key, value in weights.items()
    }
    assert 'weights are float16' in refused(everything, tiny_hrformer())


def test_other_types_of_networks_to_compare_with(tmp_path):
    class Network(nn.Linear):
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'file.pth'))

    model = Network(2, 3)
    torch.save({'weight': torch.ones(3, 2).char(), 'bias': torch.ones(3)}, tmp_path / 'file.pth')
    with pytest.raises(WeightsError, match='weight as int8'):
        plain.load_pretrained(model)
    torch.save({'weight': torch.ones(3, 2).half(), 'bias': torch.ones(3)}, tmp_path / 'file.pth')
    assert plain.load_pretrained(model)
    assert model.weight.eq(1).all()


def test_weights_that_are_no_numbers_warn():
    weights = tiny_hrformer().state_dict()
    weights['conv2.weight'][0, 0, 0, 0] = float('nan')
    weights['bn2.bias'][0] = float('inf')
    (warning,) = loaded(weights, tiny_hrformer()).warnings
    assert '2 of ' in warning
    assert 'bn2.bias' in warning or 'conv2.weight' in warning


def test_a_prefix_chooses(tmp_path):
    source = tiny_hrformer()
    weights = {f'student.{key}': value for key, value in source.state_dict().items()}
    weights.update({f'teacher.{key}': value * 0 for key, value in source.state_dict().items()})
    torch.save(weights, tmp_path / 'file.pth')
    model = tiny_hrformer()
    load_pretrained(model, tmp_path / 'file.pth', prefix='student')
    assert relative_error(output(model), output(source)) == 0
    with pytest.raises(WeightsError, match=r"no entry under the prefix 'other\.'"):
        load_pretrained(model, tmp_path / 'file.pth', prefix='other.')
