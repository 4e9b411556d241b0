"""Window partition: results by hand, and its inverse."""

import pytest
import torch

from hrformer_mmpose.layers import padding_mask, window_partition, window_reverse


def test_windows_come_in_row_major_order_with_centred_padding():
    # A 3 x 2 map, window 2 x 2: one row of padding, 0 above and 1 below. The two windows hold rows
    # (1 2 / 3 4) and (5 6 / 0 0).
    x = torch.arange(1.0, 7.0).view(1, 3, 2, 1)
    windows = window_partition(x, (2, 2))
    assert windows[..., 0].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]


def test_padding_is_split_with_the_odd_row_below():
    # Height 4, window 7: three rows of padding, one above and two below.
    windows = window_partition(torch.ones(1, 4, 7, 1), (7, 7)).view(7, 7)
    assert windows.sum(dim=1).tolist() == [0, 7, 7, 7, 7, 0, 0]


@pytest.mark.parametrize('size', [(7, 14), (8, 14), (7, 13), (10, 9), (1, 1), (16, 12)])
def test_reverse_inverts_partition(size):
    x = torch.rand(2, *size, 3)
    assert torch.equal(window_reverse(window_partition(x, (7, 7)), (7, 7), size), x)


@pytest.mark.parametrize('size', [(8, 14), (7, 13), (10, 9)])
def test_mask_marks_exactly_the_padded_tokens(size):
    mask = padding_mask(size, (7, 7), torch.zeros(1))
    real = window_partition(torch.ones(1, *size, 1), (7, 7))[..., 0]
    assert torch.equal(mask == 0, real == 1)
    assert torch.equal(mask == float('-inf'), real == 0)
    assert (mask == 0).any(dim=1).all(), 'a window without a real token would give NaN'


def test_no_mask_without_padding():
    assert padding_mask((14, 7), (7, 7), torch.zeros(1)) is None
