"""Window attention on the map in place, backwards.

Probabilities are recomputed. A program owns a block of keys of one head, takes one window of its
group after the other and in each blocks of 16 queries. It keeps grad_k and grad_v in registers.
In a window of up to 64 tokens it sees all keys of a query, so that one kernel computes all
gradients and reads and writes each number once. In larger windows another kernel, by queries,
comes before it: for the statistics of the softmax and the gradient of the queries.

Gradients of the bias table are added up in memory that a group alone adds to, in the order of its
windows: the result is the same in each run.

The compilers keep whatever they can compute once in registers and then spill: with four warps 150
to 800 bytes a thread. 16 queries a block and 16 warps (4 in larger windows) spill nothing. `zero`
is 0, which compilers do not know: they compute positions of tokens anew where they are needed.

Shapes: see `attention.py`; G groups of windows.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops.py`)
import torch
import triton
import triton.language as tl

from .attention import image_start, load_tokens, locate, logits, window_sizes
from .common import launch

_PROGRAMS = 512
_TABLE = 2**23  # numbers in the groups' gradients of the bias table: 32 MiB


@triton.jit(do_not_specialize=['per_group'])
def _by_queries(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, grad_ptr, out_ptr, sums_ptr, softmax_ptr, table_ptr,
    zero, per_group, scale, windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute log sum exp of the logits, the mean gradient of the probabilities and grad_q."""
    N: tl.constexpr = KH * KW
    C = heads * D
    head, group = tl.program_id(0) % heads, tl.program_id(0) // heads
    i, d = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
    sum_q = tl.zeros((BLOCK_D,), tl.float32)
    for window in range(group * per_group, min((group + 1) * per_group, windows)):
        start = image_start(window, H, W, rows, cols)
        tokens_ptr = qkv_ptr + start * (3 * C) + head * D
        query, issues = locate(i, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        q = load_tokens(tokens_ptr, query, issues, None, 3 * C, D, BLOCK_D)
        grad = load_tokens(grad_ptr + start * C + head * D, query, issues, None, C, D, BLOCK_D)
        largest = tl.full((BLOCK_M,), float('-inf'), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        mean = tl.zeros((BLOCK_M,), tl.float32)
        for first in range(0, N, BLOCK_N):
            j = first + tl.arange(0, BLOCK_N)
            key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
            k = load_tokens(tokens_ptr + C, key, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
            v = load_tokens(tokens_ptr + 2 * C, key, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
            s = logits(q, tl.trans(k), rel_pos_bias_ptr, i, j, scale, N, PRECISION)
            before, largest = largest, tl.maximum(largest, tl.max(s, 1))
            p, shrink = tl.exp(s - largest[:, None]), tl.exp(before - largest)
            total = total * shrink + tl.sum(p, 1)
            grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
            mean = mean * shrink + tl.sum(p * grad_p, 1)
        log_sum, mean = largest + tl.log(total), mean / total
        at = (tl.cast(window, tl.int64) * heads + head) * (2 * N) + i
        tl.store(softmax_ptr + at, log_sum, i < N)
        tl.store(softmax_ptr + at + N, mean, i < N)
        grad_q = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
        for first in range(0, N, BLOCK_N):
            j = first + tl.arange(0, BLOCK_N)
            key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
            k = load_tokens(tokens_ptr + C, key, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
            v = load_tokens(tokens_ptr + 2 * C, key, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
            s = logits(q, tl.trans(k), rel_pos_bias_ptr, i, j, scale, N, PRECISION)
            grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
            grad_s = tl.exp(s - log_sum[:, None]) * (grad_p - mean[:, None])
            grad_q += tl.dot(grad_s.to(k.dtype), k, input_precision=PRECISION)
        grad_q *= scale
        sum_q += tl.sum(grad_q, 0)
        to = out_ptr + start * (3 * C) + head * D + (query[:, None] * (3 * C) + d)
        tl.store(to, grad_q.to(out_ptr.dtype.element_ty), issues[:, None] & (d < D))
    to = sums_ptr + (group.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * (3 * C)
    tl.store(to + head * D + d, sum_q, d < D)


@triton.jit(do_not_specialize=['per_group'])
def _by_keys(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, grad_ptr, out_ptr, sums_ptr, softmax_ptr, table_ptr,
    zero, per_group, scale, windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute grad_k, grad_v and grad_rel_pos_bias; without `softmax_ptr` grad_q, too."""
    N: tl.constexpr = KH * KW
    PARTS: tl.constexpr = 1 if softmax_ptr is None else (N + BLOCK_M - 1) // BLOCK_M
    C = heads * D
    head, group = tl.program_id(0) % heads, tl.program_id(0) // heads
    d = tl.arange(0, BLOCK_D)
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
        table_ptr += (group.to(tl.int64) * heads + head) * (N * N)
    sum_q = tl.zeros((BLOCK_D,), tl.float32)
    sum_k = tl.zeros((BLOCK_D,), tl.float32)
    sum_v = tl.zeros((BLOCK_D,), tl.float32)
    for window in tl.range(
        group * per_group, min((group + 1) * per_group, windows), disable_licm=True
    ):
        start = image_start(window, H, W, rows, cols)
        tokens_ptr = qkv_ptr + start * (3 * C) + head * D
        to = out_ptr + start * (3 * C) + head * D
        j = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N) + window * zero
        key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        k = load_tokens(tokens_ptr + C, key, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
        v = load_tokens(tokens_ptr + 2 * C, key, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
        # Transposed here, both move to shared memory before the loop and not in each turn.
        transposed_k, transposed_v = tl.trans(k), tl.trans(v)
        grad_k = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
        grad_v = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
        for first in range(0, N, BLOCK_M):
            i = first + tl.arange(0, BLOCK_M)
            query, issues = locate(i, window, H, W, rows, cols, top, left, KH, KW, WIDE)
            q = load_tokens(tokens_ptr, query, issues, None, 3 * C, D, BLOCK_D)
            grad = load_tokens(grad_ptr + start * C + head * D, query, issues, None, C, D, BLOCK_D)
            s = logits(q, transposed_k, rel_pos_bias_ptr, i, j, scale, N, PRECISION)
            grad_p = tl.dot(grad, transposed_v, input_precision=PRECISION)
            if softmax_ptr is None:
                p = tl.exp(s - tl.max(s, 1)[:, None])
                p = p / tl.sum(p, 1)[:, None]
                mean = tl.sum(p * grad_p, 1)
            else:
                at = softmax_ptr + (tl.cast(window, tl.int64) * heads + head) * (2 * N) + i
                p = tl.exp(s - tl.load(at, i < N, 0.0)[:, None])
                mean = tl.load(at + N, i < N, 0.0)
            grad_s = p * (grad_p - mean[:, None])
            if rel_pos_bias_ptr is not None:
                mask = issues[:, None] & (j < N)
                tl.atomic_add(table_ptr + (i[:, None] * N + j), grad_s, mask, sem='relaxed')
            grad_s = grad_s.to(q.dtype)
            grad_v = tl.dot(tl.trans(p.to(q.dtype)), grad, grad_v, input_precision=PRECISION)
            grad_k = tl.dot(tl.trans(grad_s), q, grad_k, input_precision=PRECISION)
            if softmax_ptr is None:
                query, issues = locate(i + zero, window, H, W, rows, cols, top, left, KH, KW, WIDE)
                grad_q = tl.dot(grad_s, k, input_precision=PRECISION) * scale
                sum_q += tl.sum(grad_q, 0)
                grad_q = grad_q.to(out_ptr.dtype.element_ty)
                tl.store(to + (query[:, None] * (3 * C) + d), grad_q, issues[:, None] & (d < D))
        grad_k *= scale
        sum_k += tl.sum(grad_k, 0)
        sum_v += tl.sum(grad_v, 0)
        key, inside = locate(j + zero, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        to, mask = to + (key[:, None] * (3 * C) + d), inside[:, None] & (d < D)
        tl.store(to + C, grad_k.to(out_ptr.dtype.element_ty), mask)
        tl.store(to + 2 * C, grad_v.to(out_ptr.dtype.element_ty), mask)
    to = sums_ptr + (group.to(tl.int64) * PARTS + tl.program_id(1)) * (3 * C) + head * D + d
    if softmax_ptr is None:
        tl.store(to, sum_q, d < D)
    tl.store(to + C, sum_k, d < D)
    tl.store(to + 2 * C, sum_v, d < D)


def window_attention_backward(qkv, qkv_bias, rel_pos_bias, grad, num_heads, window):
    N = window[0] * window[1]
    sizes, constants = window_sizes(grad, num_heads, window)
    windows, blocks = sizes[1], triton.cdiv(N, constants['BLOCK_N'])
    limit = max(1, min(_PROGRAMS // num_heads, _TABLE // (num_heads * N * N)))
    per_group = triton.cdiv(windows, limit)
    groups = triton.cdiv(windows, max(1, per_group))
    out = torch.empty_like(qkv)
    parts = 1 if blocks == 1 else triton.cdiv(N, constants['BLOCK_M'])
    sums = qkv.new_zeros(groups, parts, qkv.shape[-1], dtype=torch.float32)
    table = softmax = None
    if rel_pos_bias is not None:
        table = qkv.new_zeros(groups, num_heads, N, N, dtype=torch.float32)
    if blocks > 1:
        softmax = qkv.new_empty(windows, num_heads, 2, N, dtype=torch.float32)
    tensors = qkv, qkv_bias, rel_pos_bias, grad, out, sums, softmax, table
    arguments = *tensors, 0, per_group, *sizes
    if blocks > 1:
        grid = groups * num_heads, parts
        launch(_by_queries, grid, *arguments, **constants | dict(num_warps=8))
    grid = groups * num_heads, blocks
    launch(_by_keys, grid, *arguments, **constants | dict(num_warps=16 if blocks == 1 else 4))
    return out, sums.sum((0, 1)), None if table is None else table.sum(0)
