/* Window attention with relative position bias. See common.h.
 *
 * Tokens are read and written at their positions in the map; no window is copied. Padded tokens use
 * the projection bias as key and value and issue no query. `window.h` has the layouts of operands;
 * `attention_tiles.c` computes the forward by AMX where the processor has it.
 */

#include "tiles.h"
#include "window.h"

/* sum + a b, summed within units. */
INLINE vec multiply_add(vec sum, unit a, const unit *b) {
#ifndef BFLOAT16
    return sum + SPLAT(a) * LOAD(b);
#elif defined(__AVX512BF16__) && V == 16
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(a),
                                 (__m512bh)_mm512_loadu_si512(b));
#else
    bits pair;
    memcpy(&pair, b, sizeof pair);
    bits factor = (bits){0} + a;
    sum += (vec)(factor << 16) * (vec)(pair << 16);
    return sum + (vec)(factor & 0xffff0000) * (vec)(pair & 0xffff0000);
#endif
}

/* out (m, n vectors) = a (m, K units) b (K units, n vectors). Strides for a allow a transposed
 * operand without a copy. ldb, ldo: leading dimensions of b and out. */
INLINE void gemm_microkernel(int m, int n, int64_t K, const unit *a, int64_t row_stride,
                             int64_t col_stride, const unit *b, int64_t ldb, float *out,
                             int64_t ldo) {
    vec acc[6][2];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) acc[i][j] = (vec){0};
    for (int64_t k = 0; k < K; k++)
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++)
                acc[i][j] = multiply_add(acc[i][j], a[i * row_stride + k * col_stride],
                                         b + k * ldb + j * V);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) STORE(out + i * ldo + j * V, acc[i][j]);
}

#define ROWS(m, n)                                                                    \
    for (; i + m <= M; i += m)                                                        \
        gemm_microkernel(m, n, K, a + i * row_stride, row_stride, col_stride, b, ldb, \
                         out + i * ldo, ldo);

static void gemm(int64_t M, int64_t N, int64_t K, const unit *a, int64_t row_stride,
                 int64_t col_stride, const unit *b, int64_t ldb, float *out, int64_t ldo) {
    /* Six rows by two vectors: twelve accumulators and their operands fill AVX's 16 registers. */
    for (int64_t n = N / V; n > 1; n -= 2, b += 2 * V, out += 2 * V) {
        int64_t i = 0;
        ROWS(6, 2)
        ROWS(3, 2)
        ROWS(1, 2)
    }
    if (N / V % 2) {
        int64_t i = 0;
        ROWS(6, 1)
        ROWS(1, 1)
    }
}

typedef struct {
    Tokens t;
    int64_t Np, dp;      /* tokens and head width, rounded up to whole vectors */
    int64_t dr, Nr;      /* units of a row of d and of N numbers */
    const float *bias;   /* (h, N, Np), or (N, Np) if all heads share it */
    int64_t head_stride; /* distance between two heads' biases */
    float *p, *out;      /* (nq, Np), (nq, dp) */
    unit *q, *kt, *v, *p_rows; /* rows (nq, dr), columns (dr, Np), groups (N, dp), rows (nq, Nr) */
    unit *scratch;             /* (N, dr), for `pack_columns` */
    /* Backward: */
    float *gp, *grads;         /* (nq, Np), (3, N, dp) */
    unit *g, *vt, *k;          /* rows (nq, dr), columns (dr, Np), groups (N, dp) */
    unit *q_groups, *g_groups; /* (nq, dp) */
    unit *gp_rows, *p_groups, *gp_groups; /* rows (nq, Nr), groups (nq, Np) */
    float *memory;
} Window;

static int new_window(Window *w, const Shape *s, int backward) {
    memset(w, 0, sizeof *w);
    int64_t N = s->Kh * s->Kw, Np = w->Np = ROUND_UP(N), dp = w->dp = ROUND_UP(s->d);
    int64_t dr = w->dr = dp / GROUP, Nr = w->Nr = Np / GROUP;
    int64_t groups = UNITS(N), d = UNITS(s->d);
    size_t size = N * Np + N * dp + 2 * N * dr + d * Np + groups * dp + N * Nr;
    if (backward)
        size += N * Np + 3 * N * dp + N * dr + d * Np + 3 * groups * dp + N * Nr + 2 * groups * Np;
    float *next = w->memory = alloc_zeros(size);
    if (!new_tokens(&w->t, s) || !next) {
        free_tokens(&w->t), free(next);
        return 0;
    }
#define TAKE(array, n) w->array = (void *)next, next += (n)
    TAKE(p, N * Np), TAKE(out, N * dp), TAKE(q, N * dr), TAKE(kt, d * Np), TAKE(v, groups * dp);
    TAKE(scratch, N * dr);
    w->p_rows = w->p_groups = (unit *)w->p, w->q_groups = w->q;
    if (GROUP > 1) TAKE(p_rows, N * Nr);
    if (!backward) return 1;
    TAKE(gp, N * Np), TAKE(grads, 3 * N * dp), TAKE(g, N * dr), TAKE(vt, d * Np);
    TAKE(k, groups * dp);
    w->g_groups = w->g, w->gp_rows = w->gp_groups = (unit *)w->gp;
    if (GROUP > 1) {
        TAKE(q_groups, groups * dp), TAKE(g_groups, groups * dp), TAKE(gp_rows, N * Nr);
        TAKE(p_groups, groups * Np), TAKE(gp_groups, groups * Np);
    }
    return 1;
#undef TAKE
}

static void free_window(Window *w) { free_tokens(&w->t), free(w->memory); }

/* row = exp(scale row + rel_pos_bias - its maximum) over n numbers, whole vectors. Return 1 / sum. */
INLINE float exp_row(float *row, const float *rel_pos_bias, float scale, int64_t n) {
    vec largest = SPLAT(-INFINITY), total = {0};
    for (int64_t j = 0; j < n; j += V) {
        vec y = LOAD(row + j) * scale + LOAD(rel_pos_bias + j);
        largest = VEC_MAX(y, largest); /* ignores NaN */
        STORE(row + j, y);
    }
    float most = max_lanes(largest);
    for (int64_t j = 0; j < n; j += V) {
        vec y = fast_exp(LOAD(row + j) - most);
        total += y;
        STORE(row + j, y);
    }
    return 1 / sum_lanes(total);
}

/* row *= factor over n numbers, whole vectors; `units` is the rounded row. Floats are units. */
INLINE void finish_row(float *row, float factor, unit *units, int64_t n) {
    for (int64_t j = 0; j < n; j += V) {
        vec y = LOAD(row + j) * factor;
        STORE(row + j, y);
        if (GROUP > 1) store_elems((elem *)units + j, y, V);
    }
}

/* Bias (rows, N) padded to (rows, Np) with -inf, so that the softmax ignores the extra columns. */
static float *padded_bias(const float *rel_pos_bias, int64_t rows, int64_t N, int64_t Np) {
    float *to = alloc_floats(rows * Np);
    for (int64_t i = 0; to && i < rows; i++)
        for (int64_t j = 0; j < Np; j++)
            to[i * Np + j] = j >= N ? -INFINITY : rel_pos_bias ? rel_pos_bias[i * N + j] : 0;
    return to;
}

/* Prefetch parts `first` to `end` of the tokens that issue a query: their rows are too short and too
 * far apart for the hardware prefetcher. */
static void prefetch_tokens(const Tokens *t, const Shape *s, const elem *qkv, int64_t head,
                            int64_t first, int64_t end) {
    for (int64_t i = 0; i < t->nq; i++)
        for (int64_t part = first; part < end; part++) {
            const elem *from =
                qkv + ((t->position[t->query[i]] * 3 + part) * s->heads + head) * s->d;
            for (int64_t c = 0; c < s->d; c += 16 * GROUP) __builtin_prefetch(from + c);
        }
}

/* w->p = softmax(q k^T / sqrt(d) + rel_pos_bias) for one head. */
static void attention_probs(Window *w, const Shape *s, const elem *qkv, const elem *qkv_bias,
                            int64_t head) {
    int64_t C = s->heads * s->d, Np = w->Np, d = s->d;
    prefetch_tokens(&w->t, s, qkv, head, 0, 2);
    select_queries(&w->t, qkv + head * d, 3 * C);
    pack_rows(w->t.row, w->t.nq, d, w->q, w->dr);
    select_part(&w->t, s, qkv, qkv_bias, head, 1);
    pack_columns(w->t.row, w->t.N, d, w->scratch, w->dr, w->kt, Np);
    prefetch_tokens(&w->t, s, qkv, head, 2, 3);
    gemm(w->t.nq, Np, UNITS(d), w->q, w->dr, 1, w->kt, Np, w->p, Np);
    for (int64_t i = 0; i < w->t.nq; i++) {
        const float *bias = w->bias + head * w->head_stride + w->t.query[i] * Np;
        float *row = w->p + i * Np;
        finish_row(row, exp_row(row, bias, s->scale, Np), w->p_rows + i * w->Nr, Np);
    }
}

/* Store rows of d numbers at the tokens that issue a query. */
INLINE void scatter(const Window *w, const float *rows, elem *map, int64_t stride, int64_t d,
                    float scale) {
    for (int64_t i = 0; i < w->t.nq; i++)
        store_row(map + w->t.position[w->t.query[i]] * stride, rows + i * w->dp, d, scale);
}

/* out = softmax(q k^T / sqrt(d) + rel_pos_bias) v in every window.
 * qkv: (B, H, W, 3, h, d).
 * qkv_bias: (3, h, d), bias of the projection.
 * rel_pos_bias: (h, N, N) or NULL.
 * out: (B, H, W, h, d). */
int window_attention(const elem *qkv, const elem *qkv_bias, const float *rel_pos_bias, elem *out,
                     int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                     int64_t Kw, int64_t pad_top, int64_t pad_left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, pad_top, pad_left);
    int64_t N = Kh * Kw, windows = B * s.rows * s.cols, C = heads * d;
#ifdef TILES
    if (may_use_tiles())
        return window_attention_by_tiles(&s, qkv, qkv_bias, rel_pos_bias, out, threads);
#endif
    float *padded = padded_bias(rel_pos_bias, rel_pos_bias ? heads * N : N, N, ROUND_UP(N));
    if (!padded) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        failed = !new_window(&w, &s, 0);
        w.bias = padded, w.head_stride = rel_pos_bias ? N * w.Np : 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < windows * heads; i++) {
            if (failed) continue;
            int64_t head = i % heads;
            locate_tokens(&w.t, &s, i / heads);
            attention_probs(&w, &s, qkv, qkv_bias, head);
            select_part(&w.t, &s, qkv, qkv_bias, head, 2);
            pack_groups(w.t.row, N, d, w.v, w.dp);
            gemm(w.t.nq, w.dp, UNITS(N), w.p_rows, w.Nr, 1, w.v, w.dp, w.out, w.dp);
            scatter(&w, w.out, out + head * d, C, d, 1);
        }
        if (!failed) free_window(&w);
    }
    free(padded);
    return failed;
}

/* The gradient of one window's and head's logits: w->gp from w->p and w->g. */
static void logit_grads(Window *w, float *grad_rel_pos_bias, int64_t head) {
    int64_t N = w->t.N, Np = w->Np;
    ASSUME_WHOLE_VECTORS(Np);
    for (int64_t i = 0; i < w->t.nq; i++) {
        float *row = w->gp + i * Np, *p = w->p + i * Np, total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < Np; j++) total += row[j] * p[j];
        for (int64_t j = 0; j < Np; j++) row[j] = p[j] * (row[j] - total);
        if (grad_rel_pos_bias) {
            float *to = grad_rel_pos_bias + (head * N + w->t.query[i]) * Np;
            for (int64_t j = 0; j < Np; j++) to[j] += row[j];
        }
        if (GROUP > 1) finish_row(row, 1, w->gp_rows + i * w->Nr, Np);
    }
}

/* `groups` of the packed `rows` (nq, Nr); for floats they are the same. */
INLINE void regroup(Window *w, const unit *rows, unit *groups) {
    if (GROUP == 1) return;
    for (int64_t i = 0; i < w->t.nq; i++) w->t.row[i] = (const elem *)(rows + i * w->Nr);
    pack_groups(w->t.row, w->t.nq, w->Np, groups, w->Np);
}

/* Backward of one window and head: write grad_qkv, add to grad_qkv_bias and grad_rel_pos_bias. */
static void attention_head_backward(Window *w, const Shape *s, const elem *qkv,
                                    const elem *qkv_bias, const elem *grad, elem *grad_qkv,
                                    float *grad_qkv_bias, float *grad_rel_pos_bias, int64_t head) {
    int64_t C = s->heads * s->d, N = w->t.N, Np = w->Np, d = s->d, dp = w->dp, nq = w->t.nq;
    float *grad_q = w->grads, *grad_k = grad_q + N * dp, *grad_v = grad_k + N * dp;
    select_part(&w->t, s, qkv, qkv_bias, head, 1);
    pack_groups(w->t.row, N, d, w->k, dp);
    select_part(&w->t, s, qkv, qkv_bias, head, 2);
    pack_columns(w->t.row, N, d, w->scratch, w->dr, w->vt, Np);
    if (GROUP > 1) {
        select_queries(&w->t, qkv + head * d, 3 * C);
        pack_groups(w->t.row, nq, d, w->q_groups, dp);
    }
    select_queries(&w->t, grad + head * d, C);
    pack_rows(w->t.row, nq, d, w->g, w->dr);
    if (GROUP > 1) pack_groups(w->t.row, nq, d, w->g_groups, dp);
    regroup(w, w->p_rows, w->p_groups);
    gemm(N, dp, UNITS(nq), w->p_groups, 1, Np, w->g_groups, dp, grad_v, dp);
    gemm(nq, Np, UNITS(d), w->g, w->dr, 1, w->vt, Np, w->gp, Np);
    logit_grads(w, grad_rel_pos_bias, head);
    regroup(w, w->gp_rows, w->gp_groups);
    gemm(nq, dp, UNITS(N), w->gp_rows, w->Nr, 1, w->k, dp, grad_q, dp);
    gemm(N, dp, UNITS(nq), w->gp_groups, 1, Np, w->q_groups, dp, grad_k, dp);
    scatter(w, grad_q, grad_qkv + head * d, 3 * C, d, s->scale);
    float *sum = grad_qkv_bias + head * d;
    for (int64_t i = 0; i < nq; i++)
        for (int64_t c = 0; c < d; c++) sum[c] += s->scale * grad_q[i * dp + c];
    for (int64_t i = 0; i < N; i++) {
        for (int64_t c = 0; c < d; c++) {
            sum[C + c] += s->scale * grad_k[i * dp + c];
            sum[2 * C + c] += grad_v[i * dp + c];
        }
        if (w->t.position[i] < 0) continue;
        elem *to = grad_qkv + w->t.position[i] * 3 * C + head * d;
        store_row(to + C, grad_k + i * dp, d, s->scale);
        store_row(to + 2 * C, grad_v + i * dp, d, 1);
    }
}

/* Backward of `window_attention`.
 * grad: (B, H, W, h, d).
 * grad_qkv: like qkv.
 * grad_qkv_bias: (3, h, d), sum of grad_qkv over all tokens, padded ones included.
 * grad_rel_pos_bias: (h, N, N), or NULL without rel_pos_bias. */
int window_attention_backward(const elem *qkv, const elem *qkv_bias, const float *rel_pos_bias,
                              const elem *grad, elem *grad_qkv, float *grad_qkv_bias,
                              float *grad_rel_pos_bias, int64_t B, int64_t H, int64_t W,
                              int64_t heads, int64_t d, int64_t Kh, int64_t Kw, int64_t pad_top,
                              int64_t pad_left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, pad_top, pad_left);
    int64_t N = Kh * Kw, Np = ROUND_UP(N), C = heads * d;
    int64_t tasks = B * s.rows * s.cols * heads;
    int64_t per_thread = 3 * C + (rel_pos_bias ? heads * N * Np : 0);
    float *padded = padded_bias(rel_pos_bias, rel_pos_bias ? heads * N : N, N, Np);
    float *partials = alloc_zeros((size_t)threads * per_thread);
    int failed = !padded || !partials;
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int t = 0; t < active; t++) {
        Window w;
        if (!new_window(&w, &s, 1)) {
            failed = 1;
            continue;
        }
        w.bias = padded, w.head_stride = rel_pos_bias ? N * Np : 0;
        float *own_qkv_bias = partials + t * per_thread,
              *own_rel_pos_bias = rel_pos_bias ? own_qkv_bias + 3 * C : NULL;
        for (int64_t i = tasks * t / threads; i < tasks * (t + 1) / threads; i++) {
            int64_t head = i % heads;
            locate_tokens(&w.t, &s, i / heads);
            attention_probs(&w, &s, qkv, qkv_bias, head);
            attention_head_backward(&w, &s, qkv, qkv_bias, grad, grad_qkv, own_qkv_bias,
                                    own_rel_pos_bias, head);
        }
        free_window(&w);
    }
    if (!failed) {
        for (int t = 1; t < threads; t++)
            for (int64_t i = 0; i < per_thread; i++) partials[i] += partials[t * per_thread + i];
        memcpy(grad_qkv_bias, partials, 3 * C * sizeof(float));
        for (int64_t i = 0; rel_pos_bias && i < heads * N; i++)
            memcpy(grad_rel_pos_bias + i * N, partials + 3 * C + i * Np, N * sizeof(float));
    }
    free(padded), free(partials);
    return failed;
}
