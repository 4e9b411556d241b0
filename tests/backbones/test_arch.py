"""Architectures by name, as a flat dict and as MMPose's `extra`."""

import copy

import pytest

from hrformer_mmpose.arch import stages_from_arch, stages_from_extra
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.errors import ConfigError, UnknownArgumentError


def mmpose_extra(arch: str = 'small', **settings) -> dict:
    """MMPose's nested form of a published architecture."""
    channels, heads, modules = {
        'tiny': ((18, 36, 72, 144), (1, 2, 4, 8), (1, 3, 2)),
        'small': ((32, 64, 128, 256), (1, 2, 4, 8), (1, 4, 2)),
        'base': ((78, 156, 312, 624), (2, 4, 8, 16), (1, 4, 2)),
    }[arch]
    extra = {**dict(drop_path_rate=0.1, with_rpe=True), **settings}
    extra['stage1'] = dict(
        num_modules=1,
        num_branches=1,
        block='BOTTLENECK',
        num_blocks=(2,),
        num_channels=(64,),
        num_heads=[2],
        mlp_ratios=[4],
    )
    for index, branches in enumerate((2, 3, 4)):
        extra[f'stage{index + 2}'] = dict(
            num_modules=modules[index],
            num_branches=branches,
            block='HRFORMERBLOCK',
            num_blocks=(2,) * branches,
            num_channels=channels[:branches],
            num_heads=list(heads[:branches]),
            mlp_ratios=[4] * branches,
            window_sizes=[7] * branches,
        )
    return extra


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_names_and_mmposes_extra_are_equivalent(arch):
    stages, settings = stages_from_extra(mmpose_extra(arch))
    ours = stages_from_arch(arch)
    assert stages[1:] == ours[1:]
    assert (stages[0].channels, stages[0].num_blocks) == (ours[0].channels, ours[0].num_blocks)
    assert settings == dict(drop_path_rate=0.1, with_rpe=True)


def test_a_flat_dict_sets_everything():
    stages = stages_from_arch(
        dict(
            channels=[16, 32, 64, 128],
            num_heads=2,
            num_modules=(1, 1, 2, 1),
            num_blocks=(1, 2, 3, 1),
            mlp_ratios=(4, 3, 2, 1),
            window_sizes=(7, (5, 3), 7, 7),
        )
    )
    assert [stage.num_modules for stage in stages] == [1, 1, 2, 1]
    assert stages[2].num_blocks == (3, 3, 3)
    assert stages[2].channels == (16, 32, 64)
    assert stages[2].mlp_ratios == (4, 3, 2)
    assert stages[1].window_sizes == ((7, 7), (5, 3))
    assert stages[3].num_heads == (2, 2, 2, 2)


def test_extra_stays_as_it_was_and_its_settings_count():
    extra = mmpose_extra('tiny', with_pad_mask=True, upsample=dict(align_corners=True))
    extra['stage4']['multiscale_output'] = True
    before = copy.deepcopy(extra)
    model = HRFormer(extra=extra)
    assert extra == before
    block = model.stage2[0].branches[0][0]
    assert block.attn.with_pad_mask
    assert model.stage4[-1].fuse_layers.upsample == 'bilinear_aligned'
    assert len(model.stage4[-1].fuse_layers) == 4


def test_what_mmposes_class_writes_into_extra_is_accepted():
    extra = mmpose_extra('tiny')
    extra['upsample'] = dict(mode='bilinear', align_corners=False)
    extra['stage2']['drop_path_rates'] = [0.0, 0.1]
    assert stages_from_extra(extra)[0][1].num_blocks == (2, 2)


@pytest.mark.parametrize(
    ('change', 'error', 'words'),
    [
        (lambda e: e.update(dropout=0.1), UnknownArgumentError, "'dropout'"),
        (lambda e: e['stage3'].update(window=7), UnknownArgumentError, "extra.stage3.*'window'"),
        (lambda e: e.pop('stage2'), ConfigError, 'lacks stage2'),
        (lambda e: e['stage2'].pop('num_heads'), ConfigError, 'extra.stage2 lacks num_heads'),
        (lambda e: e['stage4'].update(num_heads=[1, 2]), ConfigError, 'num_heads has 2 entries'),
        (lambda e: e['stage2'].update(block='BASIC'), ConfigError, "block='BASIC'"),
        (lambda e: e.update(upsample=dict(mode='nearest')), ConfigError, "mode='nearest'"),
    ],
)
def test_mistakes_in_extra_are_named(change, error, words):
    extra = mmpose_extra()
    change(extra)
    with pytest.raises(error, match=words):
        stages_from_extra(extra)


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        (dict(arch='huge'), ConfigError, "arch='huge' is not one of tiny, small, base"),
        (dict(arch=dict(channels=(1, 2, 3, 4))), ConfigError, 'arch lacks num_heads'),
        (dict(arch=dict(channels=8, num_heads=3)), ConfigError, 'channels=8 .* num_heads=3'),
        (dict(arch=dict(channels=(8, 8), num_heads=2)), ConfigError, 'needs four entries'),
        (
            dict(arch=dict(channels=8, num_heads=2, depth=3)),
            UnknownArgumentError,
            "unknown key 'depth'",
        ),
        (dict(), ConfigError, 'either arch or extra'),
        (dict(arch='tiny', extra={}), ConfigError, 'either arch or extra'),
        (dict(arch='tiny', frozen_stages=5), ConfigError, 'frozen_stages=5'),
        (dict(arch='tiny', frozen_stages=-2), ConfigError, 'frozen_stages=-2'),
        (dict(arch='tiny', frozen_stages=1.5), ConfigError, 'frozen_stages=1.5'),
        (dict(arch='tiny', frozen_stages='2'), ConfigError, "frozen_stages='2'"),
        (dict(arch='tiny', dropout=0.1), TypeError, "'dropout'"),
    ],
)
def test_mistakes_in_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        HRFormer(**arguments)
