"""Assignment of queries by tensor operators against scipy's."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from hrformer_mmpose.heads.assignment import assign, match


def costs(kind: str, K: int, Q: int) -> torch.Tensor:
    """Costs (8, K, Q) that are random, probabilities, saturated ones, or equal for many pairs."""
    if kind == 'random':
        return torch.randn(8, K, Q)
    if kind == 'ties':
        return -torch.randint(0, 3, (8, K, Q)).float()
    logits = torch.randn(8, Q, K) * (60 if kind == 'saturated' else 3)
    return -logits.softmax(dim=2).transpose(1, 2)


@pytest.mark.parametrize('kind', ['random', 'probabilities', 'saturated', 'ties'])
@pytest.mark.parametrize('size', [(1, 1), (1, 4), (2, 2), (5, 6), (17, 17), (17, 100)], ids=str)
def test_the_total_cost_is_the_least(kind, size):
    cost = costs(kind, *size)
    for queries in (assign(cost), match(cost)):
        assert queries.shape == (8, size[0])
        for row, matrix in zip(queries, cost, strict=True):
            assert len({*row.tolist()}) == size[0]  # no query twice
            least = matrix[linear_sum_assignment(matrix)].double().sum()
            total = matrix.gather(1, row[:, None]).double().sum()
            assert float(total - least) < 1e-6


def test_greedy_choices_would_not_do():
    """The first row must leave its best query to the second one."""
    cost = torch.tensor([[[-9.0, -8, 0], [-7, 0, 0], [0, -1, 0]]])
    assert assign(cost).tolist() == match(cost).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize('n', [3, 4, 6, 17])
def test_the_last_row_may_move_all_others(n):
    """Each row has taken the query that the next one needs."""
    cost, i = torch.full((1, n, n), 5.0), torch.arange(n - 1)
    cost[0, i, i], cost[0, i, i + 1], cost[0, -1, 0] = 0.0, 0.1, 0.0
    assert cost[0].gather(1, assign(cost)[0][:, None]).sum() < 0.1 * n


def test_a_diverged_network_is_matched_somehow():
    """Its loss is NaN, which ends the training in a line; scipy would end it here."""
    cost = torch.full((2, 3, 4), torch.nan)
    for queries in (match(cost), assign(cost)):
        assert queries.shape == (2, 3)
        assert queries.max() < 4


def test_more_dimensions():
    cost = torch.rand(2, 3, 4, 5)
    assert torch.equal(match(cost)[1, 2], match(cost[1, 2:])[0])
