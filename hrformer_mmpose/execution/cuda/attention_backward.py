"""Window attention on the map in place, backwards.

Probabilities are recomputed. A program takes one window of its group after the other, for one head.
In half precision a window of up to 64 tokens is one block: a single kernel computes all gradients
and reads and writes each number once. In float32 and in larger windows two kernels share the work.
One, by queries, computes the statistics of the softmax and the gradient of the queries. The other,
by keys, computes the rest.

Gradients of the bias table, and sums over tokens, are added up in memory that a group alone adds
to, in the order of its windows: the result is the same in each run.

The compilers keep whatever they can compute once in registers and then spill. `zero` is 0, which
compilers do not know: they compute positions of tokens anew where they are needed.

Shapes: see `attention.py`; G groups of windows.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
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


@triton.jit(do_not_specialize=['zero', 'per_group'])
def _by_keys(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, grad_ptr, out_ptr, sums_ptr, softmax_ptr, table_ptr,
    zero, per_group, scale, windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute grad_k, grad_v and grad_rel_pos_bias."""
    N: tl.constexpr = KH * KW
    PARTS: tl.constexpr = (N + BLOCK_M - 1) // BLOCK_M
    C = heads * D
    head, group = tl.program_id(0) % heads, tl.program_id(0) // heads
    d = tl.arange(0, BLOCK_D)
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
        table_ptr += (group.to(tl.int64) * heads + head) * (N * N)
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
            at = softmax_ptr + (tl.cast(window, tl.int64) * heads + head) * (2 * N) + i
            p = tl.exp(s - tl.load(at, i < N, 0.0)[:, None])
            grad_s = p * (grad_p - tl.load(at + N, i < N, 0.0)[:, None])
            if rel_pos_bias_ptr is not None:
                mask = issues[:, None] & (j < N)
                tl.atomic_add(table_ptr + (i[:, None] * N + j), grad_s, mask, sem='relaxed')
            grad_v = tl.dot(tl.trans(p.to(q.dtype)), grad, grad_v, input_precision=PRECISION)
            grad_s = grad_s.to(q.dtype)
            grad_k = tl.dot(tl.trans(grad_s), q, grad_k, input_precision=PRECISION)
        grad_k *= scale
        sum_k += tl.sum(grad_k, 0)
        sum_v += tl.sum(grad_v, 0)
        key, inside = locate(j + zero, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        to, mask = to + (key[:, None] * (3 * C) + d), inside[:, None] & (d < D)
        tl.store(to + C, grad_k.to(out_ptr.dtype.element_ty), mask)
        tl.store(to + 2 * C, grad_v.to(out_ptr.dtype.element_ty), mask)
    to = sums_ptr + (group.to(tl.int64) * PARTS + tl.program_id(1)) * (3 * C) + head * D + d
    tl.store(to + C, sum_k, d < D)
    tl.store(to + 2 * C, sum_v, d < D)


@triton.jit
def _store_tokens(
    ptr, x, n, window, H, W, rows, cols, top, left, stride,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Store a head's numbers of tokens `n` of a window, (..., BLOCK_D)."""
    d = tl.arange(0, BLOCK_D)
    token, inside = locate(n, window, H, W, rows, cols, top, left, KH, KW, WIDE)
    at = ptr + (token[:, None] * stride + d)
    tl.store(at, x.to(ptr.dtype.element_ty), inside[:, None] & (d < D))


@triton.jit(do_not_specialize=['zero', 'per_group'])
def _one_block(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, grad_ptr, out_ptr, sums_ptr, table_ptr,
    zero, per_group, scale, windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of windows that are a single block."""
    N: tl.constexpr = KH * KW
    C = heads * D
    head, group = tl.program_id(0) % heads, tl.program_id(0) // heads
    sums_ptr += group.to(tl.int64) * (3 * C) + head * D
    n, d = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
        table_ptr += (group.to(tl.int64) * heads + head) * (N * N)
    for window in tl.range(
        group * per_group, min((group + 1) * per_group, windows), disable_licm=True
    ):
        start = image_start(window, H, W, rows, cols)
        tokens_ptr = qkv_ptr + start * (3 * C) + head * D
        token, inside = locate(n, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        q = load_tokens(tokens_ptr, token, inside, None, 3 * C, D, BLOCK_D)
        k = load_tokens(tokens_ptr + C, token, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
        v = load_tokens(tokens_ptr + 2 * C, token, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
        # A token that issues no query has a gradient of 0 and adds nothing below.
        grad = load_tokens(grad_ptr + start * C + head * D, token, inside, None, C, D, BLOCK_D)
        i = n + window * zero
        s = logits(q, tl.trans(k), rel_pos_bias_ptr, i, i, scale, N, PRECISION)
        p = tl.exp(s - tl.max(s, 1)[:, None])
        p = p / tl.sum(p, 1)[:, None]
        grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
        grad_s = p * (grad_p - tl.sum(p * grad_p, 1)[:, None])
        if rel_pos_bias_ptr is not None:
            mask = (i[:, None] < N) & (i < N)
            tl.atomic_add(table_ptr + (i[:, None] * N + i), grad_s, mask, sem='relaxed')
        grad_v = tl.dot(tl.trans(p.to(q.dtype)), grad, input_precision=PRECISION)
        tl.atomic_add(sums_ptr + 2 * C + d, tl.sum(grad_v, 0), d < D, sem='relaxed')
        grad_s = grad_s.to(q.dtype)
        grad_q = tl.dot(grad_s, k, input_precision=PRECISION) * scale
        tl.atomic_add(sums_ptr + d, tl.sum(grad_q, 0), d < D, sem='relaxed')
        grad_k = tl.dot(tl.trans(grad_s), q, input_precision=PRECISION) * scale
        tl.atomic_add(sums_ptr + C + d, tl.sum(grad_k, 0), d < D, sem='relaxed')
        to, i = out_ptr + start * (3 * C) + head * D, n + zero
        place = window, H, W, rows, cols, top, left, 3 * C
        _store_tokens(to, grad_q, i, *place, D, KH, KW, WIDE, BLOCK_D)
        _store_tokens(to + C, grad_k, i, *place, D, KH, KW, WIDE, BLOCK_D)
        _store_tokens(to + 2 * C, grad_v, i, *place, D, KH, KW, WIDE, BLOCK_D)


def window_attention_backward(qkv, qkv_bias, rel_pos_bias, grad, num_heads, window):
    N = window[0] * window[1]
    sizes, constants = window_sizes(grad, num_heads, window)
    if grad.dtype is torch.float32:
        constants['BLOCK_N'] = min(32, constants['BLOCK_N'])
    windows, blocks = sizes[1], triton.cdiv(N, constants['BLOCK_N'])
    is_one_block = blocks == 1 and grad.dtype is not torch.float32
    limit = max(1, min(_PROGRAMS // num_heads, _TABLE // (num_heads * N * N)))
    per_group = triton.cdiv(windows, limit)
    groups = triton.cdiv(windows, max(1, per_group))
    out = torch.empty_like(qkv)
    parts = 1 if is_one_block else triton.cdiv(N, constants['BLOCK_M'])
    sums = qkv.new_zeros(groups, parts, qkv.shape[-1], dtype=torch.float32)
    table = None
    if rel_pos_bias is not None:
        table = qkv.new_zeros(groups, num_heads, N, N, dtype=torch.float32)
    tensors = qkv, qkv_bias, rel_pos_bias, grad, out, sums
    if is_one_block:
        grid = (groups * num_heads,)
        launch(_one_block, grid, *tensors, table, 0, per_group, *sizes, **constants)
    else:
        softmax = qkv.new_empty(windows, num_heads, 2, N, dtype=torch.float32)
        arguments = *tensors, softmax, table, 0, per_group, *sizes
        grid = groups * num_heads, parts
        launch(_by_queries, grid, *arguments, **constants | dict(num_warps=8))
        launch(_by_keys, (grid[0], blocks), *arguments, **constants)
    return out, sums.sum((0, 1)), None if table is None else table.sum(0)
