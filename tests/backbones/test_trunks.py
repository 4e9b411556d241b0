"""HRNet cut after an earlier stage, and the files that trunks start from."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.models.backbones import HRNet as MMPoseHRNet

from hrformer_mmpose.backbones.trunks import HRNet, ResNet
from hrformer_mmpose.errors import ConfigError, WeightsError


def extra(width: int = 4) -> dict:
    stages = {'stage1': dict(num_modules=1, block='BOTTLENECK', num_branches=1, num_blocks=(1,))}
    stages['stage1']['num_channels'] = (8,)
    for number in (2, 3, 4):
        stages[f'stage{number}'] = dict(
            num_modules=2,
            block='BASIC',
            num_branches=number,
            num_blocks=(1,) * number,
            num_channels=tuple(width * 2**i for i in range(number)),
        )
    return stages


@pytest.mark.parametrize(('num_stages', 'module'), [(1, 'layer1'), (2, 'stage2'), (3, 'stage3')])
@torch.no_grad()
def test_the_output_is_the_stage_of_the_whole_network(num_stages, module):
    whole = MMPoseHRNet(extra())
    whole.eval()  # MMPose's method returns None
    outputs = []
    getattr(whole, module).register_forward_hook(lambda _, args, out: outputs.append(out))
    cut = HRNet(extra(), num_stages=num_stages).eval()
    result = cut.load_state_dict(whole.state_dict(), strict=False)
    assert result.missing_keys == []
    image = torch.randn(1, 3, 64, 64)
    whole(image)
    (output,) = cut(image)
    expected = outputs[0] if num_stages == 1 else outputs[0][0]
    assert torch.equal(output, expected)
    assert not any(key.startswith(f'stage{num_stages + 1}') for key in cut.state_dict())
    with torch.enable_grad():  # no parameter is left that no output depends on
        cut(image)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in cut.parameters())


@torch.no_grad()
def test_uncut_it_is_mmposes():
    whole, ours = MMPoseHRNet(extra()), HRNet(extra()).eval()
    whole.eval()
    ours.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(image)[0], whole(image)[0])


def test_a_number_of_stages_that_hrnet_does_not_have():
    for number in (0, 5):
        with pytest.raises(ConfigError, match=f'num_stages={number} is not 1, 2, 3 or 4'):
            HRNet(extra(), num_stages=number)


def initialised(kind, path, *args, **options) -> torch.nn.Module:
    network = kind(*args, **options, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    network.init_weights()
    return network


def test_imagenet_files_of_hrnet_start_a_trunk(tmp_path):
    """They hold a fourth stage and a classifier."""
    state = MMPoseHRNet(extra()).state_dict()
    torch.save({**state, 'classifier.weight': torch.ones(3, 3)}, tmp_path / 'hrnet.pth')
    trunk = initialised(HRNet, tmp_path / 'hrnet.pth', extra(), num_stages=3)
    for key, value in trunk.state_dict().items():
        assert torch.equal(value, state[key])
    with pytest.raises(WeightsError, match='does not fit HRNet: size mismatch'):
        initialised(HRNet, tmp_path / 'hrnet.pth', extra(8), num_stages=3)
    torch.save({'conv1.weight': state['conv1.weight']}, tmp_path / 'part.pth')
    with pytest.raises(WeightsError, match='is no file of this HRNet: it lacks'):
        initialised(HRNet, tmp_path / 'part.pth', extra(), num_stages=3)


def test_torchvisions_file_starts_a_resnet(tmp_path):
    """The file of 2017 counts no batches, and holds all four layers."""
    settings = dict(depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    state = ResNet(depth=18).state_dict()
    state = {key: value for key, value in state.items() if not key.endswith('tracked')}
    torch.save({**state, 'fc.weight': torch.ones(3, 3)}, tmp_path / 'resnet18.pth')
    trunk = initialised(ResNet, tmp_path / 'resnet18.pth', **settings)
    for key, value in trunk.state_dict().items():
        assert key.endswith('tracked') or torch.equal(value, state[key])
    with pytest.raises(WeightsError, match='does not fit ResNet: size mismatch'):
        initialised(ResNet, tmp_path / 'resnet18.pth', **{**settings, 'depth': 50})


def test_without_a_file_trunks_start_as_mmposes():
    trunk = HRNet(extra(), num_stages=1, init_cfg=dict(type='Normal', std=0.001, layer='Conv2d'))
    trunk.init_weights()
    assert trunk.conv2.weight.std().item() == pytest.approx(0.001, rel=0.05)
