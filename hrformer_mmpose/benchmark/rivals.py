"""The networks that are timed against each other."""

from torch import nn

from ..backbones import HRFormer
from ..backbones.arch import stages_from_arch

HRNETS = {'hrnet_w32': 32, 'hrnet_w48': 48}
MMPOSE = 'mmpose'


def mmpose_hrformer(arch: str, **settings) -> nn.Module:
    """MMPose's own HRFormer of an architecture that we know by name."""
    from mmpose.models.backbones import HRFormer as MMPoseHRFormer

    extra = dict(drop_path_rate=0.0, with_rpe=True, **settings)
    for number, stage in enumerate(stages_from_arch(arch), start=1):
        extra[f'stage{number}'] = dict(
            num_modules=stage.num_modules,
            num_branches=len(stage.channels),
            block='BOTTLENECK' if number == 1 else 'HRFORMERBLOCK',
            num_blocks=tuple(stage.num_blocks),
            num_channels=tuple(stage.channels),
        )
        if number > 1:
            extra[f'stage{number}'].update(
                num_heads=[*stage.num_heads],
                mlp_ratios=[*stage.mlp_ratios],
                window_sizes=[window[0] for window in stage.window_sizes],
            )
        else:
            extra[f'stage{number}'].update(num_heads=[2], mlp_ratios=[4])
    return MMPoseHRFormer(extra=extra, norm_cfg=dict(type='BN'))


def hrnet_extra(width: int) -> dict:
    """MMPose's configuration of HRNet-W`width` (Sun et al., CVPR 2019)."""
    extra = {
        'stage1': dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
        )
    }
    for branches, modules in ((2, 1), (3, 4), (4, 3)):
        extra[f'stage{branches}'] = dict(
            num_modules=modules,
            num_branches=branches,
            block='BASIC',
            num_blocks=(4,) * branches,
            num_channels=tuple(width * 2**i for i in range(branches)),
        )
    return extra


def networks(arch: str, with_cp: bool = False) -> dict[str, nn.Module]:
    """'ours', 'mmpose' with the same weights, and MMPose's HRNets."""
    from mmpose.models.backbones import HRNet

    made = {MMPOSE: mmpose_hrformer(arch), 'ours': HRFormer(arch=arch, with_cp=with_cp)}
    made['ours'].load_state_dict(made[MMPOSE].state_dict())
    return made | {name: HRNet(extra=hrnet_extra(width)) for name, width in HRNETS.items()}
