"""The export block compared with the trained one."""

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.inference import InferenceHRFormer
from hrformer_mmpose.execution.exportable import ExportBlock
from tests.conftest import relative_error

SMALL = dict(
    num_modules=(1, 1, 1, 1), num_blocks=(1, 2, 2, 2), channels=(8, 16, 24, 32),
    num_heads=(1, 2, 3, 4),
)  # fmt: skip


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(with_pad_mask=True),
        dict(shift_windows=True),
        dict(shift_windows=True, with_pad_mask=True),
        dict(with_dwconv=False, with_rpe=False),
        dict(block='conv', align_corners=True),
    ],
    ids=str,
)
def test_equals_the_network_that_is_trained(settings):
    network = HRFormer(arch=SMALL, **settings).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    exported = InferenceHRFormer(network, ExportBlock)
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        assert relative_error(exported(image)[0], network(image)[0]) < 1e-5


@torch.no_grad()
def test_layer_norms_without_scale_in_half_precision():
    settings = dict(type='LN', eps=1e-6, elementwise_affine=False)
    network = HRFormer(arch=SMALL, transformer_norm_cfg=settings).eval()
    state = torch.get_rng_state()
    exported = InferenceHRFormer(network, ExportBlock)
    assert torch.equal(torch.get_rng_state(), state), 'a conversion draws no random numbers'
    image = torch.randn(2, 3, 96, 64)
    half = exported.bfloat16()(image.bfloat16())[0]
    assert relative_error(half.float(), network(image)[0]) < 0.05
