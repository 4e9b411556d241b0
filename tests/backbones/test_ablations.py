"""Effect of the options for the paper's ablations."""

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers import BasicBlock, HRFormerBlock
from tests.backbones.weights import randomise


def receptive_field(settings: list[dict], pixel: tuple[int, int]) -> torch.Tensor:
    """Pixels of a 12x12 map (windows of 6) that the output at `pixel` depends on."""
    blocks = torch.nn.Sequential(*(HRFormerBlock(4, 1, (6, 6), 2.0, **s) for s in settings)).eval()
    randomise(blocks)
    x = torch.randn(1, 4, 12, 12, requires_grad=True)
    blocks(x)[0, :, pixel[0], pixel[1]].sum().backward()
    return x.grad[0].abs().sum(0) > 0


def test_windows_see_each_other_by_convolution_or_shift_only():
    inside = torch.zeros(12, 12, dtype=torch.bool)
    inside[:6, :6] = True
    # The last row of the upper left window.
    alone = receptive_field([dict(with_dwconv=False)] * 2, (5, 2))
    assert torch.equal(alone, inside)
    by_convolution = receptive_field([dict()], (5, 2))
    assert by_convolution[:6, :6].all()
    assert by_convolution[6, 2]
    by_shift = receptive_field(
        [dict(with_dwconv=False), dict(with_dwconv=False, shifted=True)], (5, 2)
    )
    assert by_shift[:6, :6].all()
    assert by_shift[6, 2]
    # Shifted by 3: one window has rows 3 to 8, and columns 0 to 2.
    shifted = receptive_field([dict(with_dwconv=False, shifted=True)], (5, 2))
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[3:9, :3] = True
    assert torch.equal(shifted, expected)


def test_every_second_block_is_shifted():
    model = HRFormer(arch='tiny', shift_windows=True)
    shifts = {
        int(name.split('.')[4]): module.attn.shift_size
        for name, module in model.named_modules()
        if isinstance(module, HRFormerBlock)
    }
    assert shifts == {0: (0, 0), 1: (3, 3)}


def test_without_the_convolution_the_rest_keeps_its_names():
    full = HRFormer(arch='tiny').state_dict()
    less = HRFormer(arch='tiny', with_dwconv=False).state_dict()
    assert set(full) - set(less) == {
        key for key in full if '.ffn.dw3x3.' in key or '.ffn.norm2.' in key
    }
    assert not set(less) - set(full)


def test_the_plain_mlp_is_two_linear_layers_with_a_gelu_between_them():
    block = HRFormerBlock(4, 1, (6, 6), 2.0, with_dwconv=False, plain_mlp=True).double()
    randomise(block)
    x = torch.randn(2, 5, 7, 4, dtype=torch.float64)
    w1, b1, w2, b2 = block.ffn.parameters()
    assert w1.shape == (8, 4)
    y = torch.nn.functional.layer_norm(x, (4,), block.norm2.weight, block.norm2.bias, 1e-6)
    y = y @ w1.T + b1
    y = y * (1 + torch.erf(y / 2**0.5)) / 2
    assert torch.allclose(block.ffn_branch(x), x + y @ w2.T + b2, atol=1e-12)


def test_the_plain_mlp_has_no_norm_and_excludes_the_convolution():
    plain = HRFormer(arch='tiny', with_dwconv=False, plain_mlp=True).state_dict()
    less = HRFormer(arch='tiny', with_dwconv=False).state_dict()
    assert set(less) - set(plain) == {key for key in less if '.ffn.norm' in key}
    assert not set(plain) - set(less)
    with pytest.raises(ConfigError, match=r'plain_mlp=True .* requires with_dwconv=False'):
        HRFormer(arch='tiny', plain_mlp=True)


def test_convolutional_units_in_the_same_layout():
    model = HRFormer(arch='tiny', block='conv', multiscale_output=True)
    units = [m for m in model.modules() if isinstance(m, BasicBlock)]
    assert len(units) == 2 * (1 * 2 + 3 * 3 + 2 * 4)
    assert not any(isinstance(m, HRFormerBlock) for m in model.modules())
    maps = model.eval()(torch.rand(1, 3, 64, 48))
    assert [tuple(x.shape[1:]) for x in maps] == [(18, 16, 12), (36, 8, 6), (72, 4, 3), (144, 2, 2)]


@pytest.mark.parametrize('window', [7, 15])
def test_window_sizes(window):
    arch = dict(
        num_modules=(1, 1, 1, 1),
        channels=(8, 8, 8, 8),
        num_heads=(1, 1, 1, 1),
        window_sizes=(window,) * 4,
    )
    model = HRFormer(arch=arch).eval()
    tables = [v for k, v in model.state_dict().items() if k.endswith('position_bias_table')]
    assert {len(table) for table in tables} == {(2 * window - 1) ** 2}
    assert model(torch.rand(1, 3, 96, 64))[0].shape == (1, 8, 24, 16)


def test_an_unknown_block_is_an_error():
    with pytest.raises(ConfigError, match="block='swin' is not one of transformer, conv"):
        HRFormer(arch='tiny', block='swin')
