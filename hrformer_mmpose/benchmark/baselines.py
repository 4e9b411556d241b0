"""The networks that are timed against each other."""

from mmengine.config import Config
from torch import nn

from ..arch import stages_from_arch
from ..backbones import HRFormer

HRNET_W48 = 'hrnet_w48'
HRNETS = {'hrnet_w32': 32, HRNET_W48: 48}
MMPOSE, OURS = 'mmpose', 'ours'
PREFIX = 'hrformer_mmpose.'


def mmpose_extra(arch: str, **settings) -> dict:
    """MMPose's nested form of an architecture that we know by name."""
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
    return extra


def mmpose_hrformer(arch: str, **settings) -> nn.Module:
    """MMPose's own HRFormer of an architecture that we know by name."""
    from mmpose.models.backbones import HRFormer as MMPoseHRFormer

    return MMPoseHRFormer(extra=mmpose_extra(arch, **settings), norm_cfg=dict(type='BN'))


def mmpose_config(cfg: Config) -> Config:
    """A pose config of ours with nothing but MMPose's classes; the same weights load into it."""
    stock = Config(_with_mmpose_types(cfg.to_dict()), filename=cfg.filename)
    stock.pop('runner_type', None)
    stock.custom_imports = None
    backbone = stock.model.backbone
    if 'arch' in backbone:
        stock.model.backbone = dict(
            type='HRFormer', extra=mmpose_extra(backbone.arch), norm_cfg=dict(type='BN')
        )
    decoder = stock.model.head.decoder
    stock.model.test_cfg.setdefault('shift_heatmap', decoder.type == 'MSRAHeatmap')
    return stock


def _with_mmpose_types(values):
    """A copy without our prefix at any `type`, and without what only our classes take."""
    if isinstance(values, dict):
        return {key: _with_mmpose_types(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map(_with_mmpose_types, values))
    return values.removeprefix(PREFIX) if isinstance(values, str) else values


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

    networks = {MMPOSE: mmpose_hrformer(arch), OURS: HRFormer(arch=arch, with_cp=with_cp)}
    networks[OURS].load_state_dict(networks[MMPOSE].state_dict())
    return networks | {name: HRNet(extra=hrnet_extra(width)) for name, width in HRNETS.items()}
