/* Window attention with relative position bias. See common.h.
 *
 * Tokens are read and written at their positions in the map; no window is copied. Padded tokens use
 * the projection bias as key and value and issue no query.
 */

#include "common.h"

/* out (m, n vectors) = a (m, K) b (K, n vectors). Strides for a allow a transposed operand without
 * a copy. ldb, ldo: leading dimensions of b and out. */
INLINE void gemm_microkernel(int m, int n, int64_t K, const float *a, int64_t row_stride,
                             int64_t col_stride, const float *b, int64_t ldb, float *out,
                             int64_t ldo) {
    vec acc[6][2];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) acc[i][j] = (vec){0};
    for (int64_t k = 0; k < K; k++) {
        vec row[2];
        for (int j = 0; j < n; j++) row[j] = LOAD(b + k * ldb + j * V);
        for (int i = 0; i < m; i++) {
            vec factor = SPLAT(a[i * row_stride + k * col_stride]);
            for (int j = 0; j < n; j++) acc[i][j] += factor * row[j];
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) STORE(out + i * ldo + j * V, acc[i][j]);
}

#define ROWS(m, n)                                                                    \
    for (; i + m <= M; i += m)                                                        \
        gemm_microkernel(m, n, K, a + i * row_stride, row_stride, col_stride, b, ldb, \
                         out + i * ldo, ldo);

static void gemm(int64_t M, int64_t N, int64_t K, const float *a, int64_t row_stride,
                 int64_t col_stride, const float *b, int64_t ldb, float *out, int64_t ldo) {
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
    int64_t B, H, W, heads, d, Kh, Kw, pad_top, pad_left, rows, cols;
    float scale; /* of the queries */
} Shape;

static Shape shape_of(int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                      int64_t Kw, int64_t pad_top, int64_t pad_left) {
    int64_t rows = (H + pad_top + Kh - 1) / Kh, cols = (W + pad_left + Kw - 1) / Kw;
    return (Shape){B, H, W, heads, d, Kh, Kw, pad_top, pad_left, rows, cols, 1 / sqrtf((float)d)};
}

typedef struct {
    int64_t N, Np, dp, nq; /* tokens; rounded up to whole vectors; head width, likewise; queries */
    int64_t *position;     /* index of each token in the batch of maps, -1 if padded */
    int64_t *query;        /* indices of the tokens that issue a query */
    const float *bias;     /* (h, N, Np), or (N, Np) if all heads share it */
    int64_t head_stride;   /* distance between two heads' biases */
    float *q, *k, *v, *kt, *p;  /* (nq, dp), (N, dp), (N, dp), (d, Np), (nq, Np) */
    float *vt, *g, *gp, *grads; /* backward: (d, Np), (nq, dp), (nq, Np), (3, N, dp) */
} Window;

static int new_window(Window *w, const Shape *s, int backward) {
    memset(w, 0, sizeof *w);
    w->N = s->Kh * s->Kw, w->Np = ROUND_UP(w->N), w->dp = ROUND_UP(s->d);
    size_t wide = (size_t)w->N * w->dp, square = (size_t)w->N * w->Np,
           transposed = (size_t)s->d * w->Np;
    w->position = malloc(2 * w->N * sizeof(int64_t));
    w->q = alloc_zeros(3 * wide + transposed + square +
                       (backward ? transposed + square + 4 * wide : 0));
    if (!w->position || !w->q) {
        free(w->position), free(w->q);
        return 0;
    }
    w->query = w->position + w->N;
    w->k = w->q + wide, w->v = w->k + wide, w->kt = w->v + wide, w->p = w->kt + transposed;
    w->vt = w->p + square, w->gp = w->vt + transposed, w->g = w->gp + square,
    w->grads = w->g + wide;
    return 1;
}

static void free_window(Window *w) { free(w->position), free(w->q); }

/* Compute the positions of the tokens of window `index` in map b. */
static void locate_tokens(Window *w, const Shape *s, int64_t b, int64_t index) {
    int64_t y0 = index / s->cols * s->Kh - s->pad_top, x0 = index % s->cols * s->Kw - s->pad_left;
    w->nq = 0;
    for (int64_t i = 0; i < w->N; i++) {
        int64_t y = y0 + i / s->Kw, x = x0 + i % s->Kw;
        int inside = y >= 0 && y < s->H && x >= 0 && x < s->W;
        w->position[i] = inside ? (b * s->H + y) * s->W + x : -1;
        if (inside) w->query[w->nq++] = i;
    }
}

/* to = factor from for n numbers, in whole vectors if n >= V. */
INLINE void copy_scaled(float *to, const float *from, int64_t n, float factor) {
    if (n < V) {
        for (int64_t i = 0; i < n; i++) to[i] = from[i] * factor;
        return;
    }
    for (int64_t i = 0; i + V <= n; i += V) STORE(to + i, LOAD(from + i) * SPLAT(factor));
    STORE(to + n - V, LOAD(from + n - V) * SPLAT(factor)); /* overlaps the previous store */
}

/* Transpose four rows of n numbers into four columns of `to`, whose leading dimension is ld. */
INLINE void transpose_4_rows(const float *const from[4], float *to, int64_t n, int64_t ld) {
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t order __attribute__((vector_size(16)));
    int64_t c = 0;
    for (; c + 4 <= n; c += 4) {
        four row[4], interleaved[4];
        for (int i = 0; i < 4; i++) row[i] = *(const four *)(from[i] + c);
        for (int i = 0; i < 2;
             i++) { /* a0 b0 a1 b1 and a2 b2 a3 b3, from rows 0, 1 and rows 2, 3 */
            interleaved[2 * i] = __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){0, 4, 1, 5});
            interleaved[2 * i + 1] =
                __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){2, 6, 3, 7});
        }
        for (int i = 0; i < 2; i++) {
            four *first = (four *)(to + (c + 2 * i) * ld),
                 *second = (four *)(to + (c + 2 * i + 1) * ld);
            *first = __builtin_shuffle(interleaved[i], interleaved[i + 2], (order){0, 1, 4, 5});
            *second = __builtin_shuffle(interleaved[i], interleaved[i + 2], (order){2, 3, 6, 7});
        }
    }
    for (; c < n; c++)
        for (int i = 0; i < 4; i++) to[c * ld + i] = from[i][c];
}

/* row = softmax(row + rel_pos_bias) over n numbers. */
INLINE void softmax(float *row, const float *rel_pos_bias, int64_t n) {
    ASSUME_WHOLE_VECTORS(n);
    float largest = -INFINITY, total = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < n; j++) {
        row[j] += rel_pos_bias[j];
        largest = row[j] > largest ? row[j] : largest;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        row[j] = fast_exp(row[j] - largest);
        total += row[j];
    }
    float scale = 1 / total;
    for (int64_t j = 0; j < n; j++) row[j] *= scale;
}

/* Bias (rows, N) padded to (rows, Np) with -inf, so that the softmax ignores the extra columns. */
static float *padded_bias(const float *rel_pos_bias, int64_t rows, int64_t N, int64_t Np) {
    float *to = alloc_floats(rows * Np);
    for (int64_t i = 0; to && i < rows; i++)
        for (int64_t j = 0; j < Np; j++)
            to[i * Np + j] = j >= N ? -INFINITY : rel_pos_bias ? rel_pos_bias[i * N + j] : 0;
    return to;
}

/* Query, key and value of token i of the window; the projection bias if it is padded. */
INLINE const float *token_qkv(const Window *w, const Shape *s, const float *qkv,
                              const float *qkv_bias, int64_t i, int64_t head) {
    return (w->position[i] < 0 ? qkv_bias : qkv + w->position[i] * 3 * s->heads * s->d) +
           head * s->d;
}

/* Prefetch token i: tokens are too short and too far apart for the hardware prefetcher. */
INLINE void prefetch_token(const Window *w, const Shape *s, const float *qkv, int64_t i,
                           int64_t head) {
    if (i >= w->N || w->position[i] < 0) return;
    for (int64_t part = 0; part < 3; part++) {
        const float *from = qkv + ((w->position[i] * 3 + part) * s->heads + head) * s->d;
        for (int64_t c = 0; c < s->d; c += 16) __builtin_prefetch(from + c);
    }
}

/* Pack the keys (part 1) or values (part 2) of all tokens as columns of `to`, (d, Np). */
static void pack_transposed(const Window *w, const Shape *s, const float *qkv,
                            const float *qkv_bias, int64_t head, int64_t part, float *to) {
    int64_t offset = part * s->heads * s->d, i = 0;
    for (; i + 4 <= w->N; i += 4) {
        const float *from[4];
        for (int j = 0; j < 4; j++) from[j] = token_qkv(w, s, qkv, qkv_bias, i + j, head) + offset;
        transpose_4_rows(from, to + i, s->d, w->Np);
    }
    for (; i < w->N; i++) {
        const float *from = token_qkv(w, s, qkv, qkv_bias, i, head) + offset;
        for (int64_t c = 0; c < s->d; c++) to[c * w->Np + i] = from[c];
    }
}

/* w->p = softmax(q k^T / sqrt(d) + rel_pos_bias) for one head. */
static void attention_probs(Window *w, const Shape *s, const float *qkv, const float *qkv_bias,
                            int64_t head) {
    enum { AHEAD = 6 };
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp;
    float *q = w->q;
    for (int64_t i = 0; i < AHEAD; i++) prefetch_token(w, s, qkv, i, head);
    for (int64_t i = 0; i < N; i++) {
        prefetch_token(w, s, qkv, i + AHEAD, head);
        const float *from = token_qkv(w, s, qkv, qkv_bias, i, head);
        copy_scaled(w->v + i * dp, from + 2 * C, d, 1);
        if (w->position[i] < 0) continue;
        copy_scaled(q, from, d, s->scale);
        q += dp;
    }
    pack_transposed(w, s, qkv, qkv_bias, head, 1, w->kt);
    gemm(w->nq, Np, d, w->q, dp, 1, w->kt, Np, w->p, Np);
    for (int64_t i = 0; i < w->nq; i++)
        softmax(w->p + i * Np, w->bias + head * w->head_stride + w->query[i] * Np, Np);
}

/* out = softmax(q k^T / sqrt(d) + rel_pos_bias) v in every window.
 * qkv: (B, H, W, 3, h, d).
 * qkv_bias: (3, h, d), bias of the projection.
 * rel_pos_bias: (h, N, N) or NULL.
 * out: (B, H, W, h, d). */
int window_attention(const float *qkv, const float *qkv_bias, const float *rel_pos_bias, float *out,
                     int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                     int64_t Kw, int64_t pad_top, int64_t pad_left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, pad_top, pad_left);
    int64_t N = Kh * Kw, windows = s.rows * s.cols, C = heads * d;
    float *padded = padded_bias(rel_pos_bias, rel_pos_bias ? heads * N : N, N, ROUND_UP(N));
    if (!padded) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        failed = !new_window(&w, &s, 0);
        w.bias = padded, w.head_stride = rel_pos_bias ? N * w.Np : 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < B * windows * heads; i++) {
            if (failed) continue;
            int64_t head = i % heads;
            locate_tokens(&w, &s, i / heads / windows, i / heads % windows);
            attention_probs(&w, &s, qkv, qkv_bias, head);
            gemm(w.nq, w.dp, N, w.p, w.Np, 1, w.v, w.dp, w.q, w.dp);
            for (int64_t q = 0; q < w.nq; q++)
                copy_scaled(out + w.position[w.query[q]] * C + head * d, w.q + q * w.dp, d, 1);
        }
        if (!failed) free_window(&w);
    }
    free(padded);
    return failed;
}

/* Backward of one window and head: write grad_qkv, add to grad_qkv_bias and grad_rel_pos_bias. */
static void attention_head_backward(Window *w, const Shape *s, const float *qkv,
                                    const float *qkv_bias, const float *grad, float *grad_qkv,
                                    float *grad_qkv_bias, float *grad_rel_pos_bias, int64_t head) {
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp, nq = w->nq;
    float *grad_q = w->grads, *grad_k = grad_q + N * dp, *grad_v = grad_k + N * dp;
    ASSUME_WHOLE_VECTORS(Np);
    for (int64_t i = 0; i < N; i++) {
        const float *from = token_qkv(w, s, qkv, qkv_bias, i, head);
        copy_scaled(w->k + i * dp, from + C, d, 1);
    }
    pack_transposed(w, s, qkv, qkv_bias, head, 2, w->vt);
    for (int64_t i = 0; i < nq; i++)
        copy_scaled(w->g + i * dp, grad + w->position[w->query[i]] * C + head * d, d, 1);
    gemm(N, dp, nq, w->p, 1, Np, w->g, dp, grad_v, dp);
    gemm(nq, Np, d, w->g, dp, 1, w->vt, Np, w->gp, Np);
    for (int64_t i = 0; i < nq; i++) {
        float *row = w->gp + i * Np, *p = w->p + i * Np, total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < Np; j++) total += row[j] * p[j];
        for (int64_t j = 0; j < Np; j++) row[j] = p[j] * (row[j] - total);
        if (grad_rel_pos_bias) {
            float *to = grad_rel_pos_bias + (head * N + w->query[i]) * Np;
            for (int64_t j = 0; j < Np; j++) to[j] += row[j];
        }
    }
    gemm(nq, dp, N, w->gp, Np, 1, w->k, dp, grad_q, dp);
    gemm(N, dp, nq, w->gp, 1, Np, w->q, dp, grad_k, dp);
    for (int64_t i = 0; i < nq; i++) {
        float *row = grad_q + i * dp;
        for (int64_t c = 0; c < d; c++) {
            row[c] *= s->scale;
            grad_qkv_bias[head * d + c] += row[c];
        }
        copy_scaled(grad_qkv + w->position[w->query[i]] * 3 * C + head * d, row, d, 1);
    }
    for (int64_t i = 0; i < N; i++) {
        float *sum = grad_qkv_bias + head * d;
        for (int64_t c = 0; c < d; c++) {
            sum[C + c] += grad_k[i * dp + c];
            sum[2 * C + c] += grad_v[i * dp + c];
        }
        if (w->position[i] < 0) continue;
        float *to = grad_qkv + w->position[i] * 3 * C + head * d;
        copy_scaled(to + C, grad_k + i * dp, d, 1);
        copy_scaled(to + 2 * C, grad_v + i * dp, d, 1);
    }
}

/* Backward of `window_attention`.
 * grad: (B, H, W, h, d).
 * grad_qkv: like qkv.
 * grad_qkv_bias: (3, h, d), sum of grad_qkv over all tokens, padded ones included.
 * grad_rel_pos_bias: (h, N, N), or NULL without rel_pos_bias. */
int window_attention_backward(const float *qkv, const float *qkv_bias, const float *rel_pos_bias,
                              const float *grad, float *grad_qkv, float *grad_qkv_bias,
                              float *grad_rel_pos_bias, int64_t B, int64_t H, int64_t W,
                              int64_t heads, int64_t d, int64_t Kh, int64_t Kw, int64_t pad_top,
                              int64_t pad_left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, pad_top, pad_left);
    int64_t N = Kh * Kw, Np = ROUND_UP(N), C = heads * d, windows = s.rows * s.cols;
    int64_t tasks = B * windows * heads, per_thread = 3 * C + (rel_pos_bias ? heads * N * Np : 0);
    float *padded = padded_bias(rel_pos_bias, rel_pos_bias ? heads * N : N, N, Np);
    float *partials = alloc_zeros((size_t)threads * per_thread);
    int failed = !padded || !partials;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int t = 0; t < threads; t++) {
        Window w;
        if (failed || !new_window(&w, &s, 1)) {
            failed = 1;
            continue;
        }
        w.bias = padded, w.head_stride = rel_pos_bias ? N * Np : 0;
        float *own_qkv_bias = partials + t * per_thread,
              *own_rel_pos_bias = rel_pos_bias ? own_qkv_bias + 3 * C : NULL;
        for (int64_t i = tasks * t / threads; i < tasks * (t + 1) / threads; i++) {
            int64_t head = i % heads;
            locate_tokens(&w, &s, i / heads / windows, i / heads % windows);
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
