"""Recomputing training steps compared with plain ones: outputs, gradients, statistics."""

import copy

import pytest
import torch

from hrformer_mmpose.execution.block import HRFormerBlock
from tests.conftest import without_recompute
from tests.execution.steps import compare, make_block, recomputed, step  # noqa: F401


def frozen_statistics(block: HRFormerBlock) -> None:
    for norm in (block.ffn.norm1, block.ffn.norm2, block.ffn.norm3):
        norm.eval()


def cumulative_average(block: HRFormerBlock) -> None:
    block.ffn.norm1.momentum = None


def frozen_parameters(block: HRFormerBlock) -> None:
    block.ffn.fc2.requires_grad_(False)
    block.ffn.norm1.requires_grad_(False)
    block.attn.attn.relative_position_bias_table.requires_grad_(False)
    block.norm1.requires_grad_(False)


@pytest.mark.parametrize(
    ('settings', 'change'),
    [
        (dict(), None),
        (dict(with_rpe=False), None),
        (dict(with_pad_mask=True), None),
        (dict(with_cp=True), None),
        (dict(with_dwconv=False), None),
        (dict(shifted=True), None),
        (dict(drop_path=0.5), None),
        (dict(), frozen_statistics),
        (dict(), cumulative_average),
        (dict(), frozen_parameters),
    ],
    ids=[
        'plain',
        'no rpe',
        'mask',
        'cp',
        'no dw',
        'shifted',
        'drop path',
        'eval',
        'cumulative',
        'frozen',
    ],
)
@pytest.mark.parametrize('size', [(6, 8), (7, 5)], ids=str)
def test_a_block_trains_as_the_plain_one(settings, change, size, recomputed):  # noqa: F811
    ours = make_block(**settings)
    if change:
        change(ours)
    plain = copy.deepcopy(ours)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    results = step(ours, x)
    assert 'ffn' in recomputed
    compare(results, step(without_recompute(plain), x))


def test_a_plain_mlp_trains_beside_recomputed_attention(recomputed):  # noqa: F811
    ours = make_block(with_dwconv=False, plain_mlp=True)
    plain = copy.deepcopy(ours)
    x = torch.randn(2, 8, 7, 5, dtype=torch.float64)
    results = step(ours, x)
    assert recomputed == ['attention']
    compare(results, step(without_recompute(plain), x))
