"""Assignment of queries to keypoints at the least total cost (the Hungarian algorithm).

`match` calls scipy, for training. `assign` computes the same on the device in a fixed sequence of
operators, for predictions: ONNX has no such operator, and a CUDA graph cannot wait for the CPU.

Shapes: B batch, K keypoints, Q queries, R rows so far.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match(cost: Tensor) -> Tensor:
    """Return each keypoint's query at the least total cost, by scipy on the CPU.

    Args:
        cost: (B, K, Q) or (L, B, K, Q), not empty, with K <= Q. NaN and infinite costs of a
            diverged network are replaced.

    Returns:
        (B, K) or (L, B, K), int64, on the device of `cost`.
    """
    matrices = cost.detach().float().nan_to_num().flatten(0, -3).cpu().numpy()
    queries = [torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in matrices]
    return torch.stack(queries).view(cost.shape[:-1]).to(cost.device)


def assign(cost: Tensor) -> Tensor:
    """Return each keypoint's query at the least total cost, (B, K, Q) -> (B, K), with K <= Q.

    One keypoint after the other is added by a shortest augmenting path (Crouse, "On implementing
    2D rectangular assignment algorithms", 2016), found by Bellman and Ford's algorithm on costs
    reduced by dual variables.
    """
    lowest, queries = cost[:, 0].min(1, keepdim=True)
    row_dual, query_dual = lowest, torch.zeros_like(cost[:, 0])
    for rows in range(2, cost.shape[1] + 1):
        queries, row_dual, query_dual = _add_row(cost[:, :rows], queries, row_dual, query_dual)
    return queries


def _add_row(
    cost: Tensor, queries: Tensor, row_dual: Tensor, query_dual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Extend an optimal assignment of R - 1 rows to R rows.

    Args:
        cost: (B, R, Q).
        queries: of the first R - 1 rows, (B, R - 1).
        row_dual: (B, R - 1).
        query_dual: (B, Q).

    Returns:
        The last three for R rows.
    """
    R = cost.shape[1]
    lowest = (cost[:, -1] - query_dual).min(1, keepdim=True)[0]
    row_dual = torch.cat([row_dual, lowest], dim=1)
    # Rounding must not make a cost negative: the path could then run in a circle.
    reduced = (cost - row_dual[..., None] - query_dual[:, None]).clamp(min=0)
    distance, previous = _shortest_paths(reduced, queries)
    is_taken = torch.zeros_like(query_dual).scatter(1, queries, torch.inf)
    total, last = (distance[..., None] + reduced + is_taken[:, None]).min(1)
    shortest, query = total.min(1, keepdim=True)
    gain = (shortest - distance).clamp(min=0)
    row_dual = row_dual + gain
    query_dual = query_dual.scatter_add(1, queries, -gain[:, :-1])
    # Along the path back to the new row, each row hands its query to the row before.
    row = last.gather(1, query)
    queries = torch.cat([queries, torch.zeros_like(row)], dim=1)
    for _ in range(R):
        handed = queries.gather(1, row)
        queries = queries.scatter(1, row, query)
        query = torch.where(row == R - 1, query, handed)
        row = previous.gather(1, row)
    return queries, row_dual, query_dual


def _shortest_paths(reduced: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Find the shortest path from the last row to each row.

    An edge leads to the row that holds a query, at the reduced cost of taking that query.

    Args:
        reduced: costs, at least 0, (B, R, Q).
        queries: of the first R - 1 rows, (B, R - 1).

    Returns:
        Distances and preceding rows, (B, R); the last row precedes itself.
    """
    R = reduced.shape[1]
    edges = reduced.gather(2, queries[:, None].expand(-1, R, -1))  # from, to
    edges = torch.cat([edges, torch.full_like(edges[..., :1], torch.inf)], dim=2)
    distance = edges[:, -1]
    distance = torch.cat([distance[:, :-1], torch.zeros_like(distance[:, -1:])], dim=1)
    previous = torch.full_like(queries[:, :1], R - 1).expand(-1, R)
    for _ in range(R - 2):
        reached, row = (distance[..., None] + edges).min(1)
        is_closer = reached < distance
        distance = torch.where(is_closer, reached, distance)
        previous = torch.where(is_closer, row, previous)
    return distance, previous
