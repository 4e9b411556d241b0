/* Attention in windows. See common.h.
 *
 * Windows are cut where they lie: a token of the map is read and written at its place, a padded one
 * has the projection's bias for its query, key and value, and no query of its own.
 */

#include "common.h"

/* out (M, n vectors) = a (M, K) b (K, n vectors); a is walked by strides, so that its transpose
 * needs no copy. b and out are rows of ldb and ldo numbers. */
INLINE void tile(int m, int n, int64_t K, const float *a, int64_t across, int64_t along,
                 const float *b, int64_t ldb, float *out, int64_t ldo) {
    vec total[6][2];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) total[i][j] = (vec){0};
    for (int64_t k = 0; k < K; k++) {
        vec row[2];
        for (int j = 0; j < n; j++) row[j] = LOAD(b + k * ldb + j * V);
        for (int i = 0; i < m; i++) {
            vec factor = SPLAT(a[i * across + k * along]);
            for (int j = 0; j < n; j++) total[i][j] += factor * row[j];
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) STORE(out + i * ldo + j * V, total[i][j]);
}

#define ROWS(m, n)              \
    for (; i + m <= M; i += m) \
        tile(m, n, K, a + i * across, across, along, b, ldb, out + i * ldo, ldo);

static void product(int64_t M, int64_t N, int64_t K, const float *a, int64_t across, int64_t along,
                    const float *b, int64_t ldb, float *out, int64_t ldo) {
    /* Six rows by two vectors: twelve sums, and what they need, fill AVX's sixteen registers. */
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
    int64_t B, H, W, heads, d, Kh, Kw, top, left, rows, cols;
    float factor; /* of the queries */
} Shape;

static Shape shape_of(int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                      int64_t Kw, int64_t top, int64_t left) {
    int64_t rows = (H + top + Kh - 1) / Kh, cols = (W + left + Kw - 1) / Kw;
    return (Shape){B, H, W, heads, d, Kh, Kw, top, left, rows, cols, 1 / sqrtf((float)d)};
}

typedef struct {
    int64_t N, Np, dp, nq;      /* tokens, filled up; head width, filled up; queries */
    int64_t *place;             /* of each token: its number in the map, or -1 */
    int64_t *query;             /* the tokens that have one */
    const float *bias;          /* (h, N, Np) or, if it is the same for all heads, (N, Np) */
    int64_t bias_stride;        /* from head to head */
    float *q, *k, *v, *kt, *p;  /* (nq, dp), (N, dp), (N, dp), (d, Np), (nq, Np) */
    float *vt, *g, *gp, *grads; /* backward: (d, Np), (nq, dp), (nq, Np), (3, N, dp) */
} Window;

static int new_window(Window *w, const Shape *s, int backward) {
    memset(w, 0, sizeof *w);
    w->N = s->Kh * s->Kw, w->Np = ROUND_UP(w->N), w->dp = ROUND_UP(s->d);
    size_t wide = (size_t)w->N * w->dp, square = (size_t)w->N * w->Np, turned = (size_t)s->d * w->Np;
    w->place = malloc(2 * w->N * sizeof(int64_t));
    w->q = zeros(3 * wide + turned + square + (backward ? turned + square + 4 * wide : 0));
    if (!w->place || !w->q) {
        free(w->place), free(w->q);
        return 0;
    }
    w->query = w->place + w->N;
    w->k = w->q + wide, w->v = w->k + wide, w->kt = w->v + wide, w->p = w->kt + turned;
    w->vt = w->p + square, w->gp = w->vt + turned, w->g = w->gp + square, w->grads = w->g + wide;
    return 1;
}

static void free_window(Window *w) { free(w->place), free(w->q); }

/* Where the tokens of window `index` (of one map) lie in map b. */
static void locate(Window *w, const Shape *s, int64_t b, int64_t index) {
    int64_t y0 = index / s->cols * s->Kh - s->top, x0 = index % s->cols * s->Kw - s->left;
    w->nq = 0;
    for (int64_t i = 0; i < w->N; i++) {
        int64_t y = y0 + i / s->Kw, x = x0 + i % s->Kw;
        int inside = y >= 0 && y < s->H && x >= 0 && x < s->W;
        w->place[i] = inside ? (b * s->H + y) * s->W + x : -1;
        if (inside) w->query[w->nq++] = i;
    }
}

/* Copies of n numbers, by whole vectors where there is room for one. */
INLINE void copy(float *to, const float *from, int64_t n, float factor) {
    if (n < V) {
        for (int64_t i = 0; i < n; i++) to[i] = from[i] * factor;
        return;
    }
    for (int64_t i = 0; i + V <= n; i += V) STORE(to + i, LOAD(from + i) * SPLAT(factor));
    STORE(to + n - V, LOAD(from + n - V) * SPLAT(factor)); /* overlaps the last one */
}

/* Four rows of n numbers at `from` into four columns of `to`, whose rows have ld numbers. */
INLINE void turn_four(const float *const from[4], float *to, int64_t n, int64_t ld) {
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t order __attribute__((vector_size(16)));
    int64_t c = 0;
    for (; c + 4 <= n; c += 4) {
        four row[4], mixed[4];
        for (int i = 0; i < 4; i++) row[i] = *(const four *)(from[i] + c);
        for (int i = 0; i < 2; i++) { /* a0 b0 a1 b1, then a2 b2 a3 b3, of rows 0 and 1, 2 and 3 */
            mixed[2 * i] = __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){0, 4, 1, 5});
            mixed[2 * i + 1] = __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){2, 6, 3, 7});
        }
        for (int i = 0; i < 2; i++) {
            four *first = (four *)(to + (c + 2 * i) * ld), *second = (four *)(to + (c + 2 * i + 1) * ld);
            *first = __builtin_shuffle(mixed[i], mixed[i + 2], (order){0, 1, 4, 5});
            *second = __builtin_shuffle(mixed[i], mixed[i + 2], (order){2, 3, 6, 7});
        }
    }
    for (; c < n; c++)
        for (int i = 0; i < 4; i++) to[c * ld + i] = from[i][c];
}

/* row = softmax(row + bias) over n numbers. */
INLINE void softmax(float *row, const float *bias, int64_t n) {
    WHOLE_VECTORS(n);
    float top = -INFINITY, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) {
        row[j] += bias[j];
        top = row[j] > top ? row[j] : top;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        row[j] = exp_of(row[j] - top);
        total += row[j];
    }
    float by = 1 / total;
    for (int64_t j = 0; j < n; j++) row[j] *= by;
}

/* The bias with rows filled up by -inf, so that nothing attends to what fills up a window. */
static float *filled_up(const float *bias, int64_t rows, int64_t N, int64_t Np) {
    float *to = floats(rows * Np);
    for (int64_t i = 0; to && i < rows; i++)
        for (int64_t j = 0; j < Np; j++)
            to[i * Np + j] = j >= N ? -INFINITY : bias ? bias[i * N + j] : 0;
    return to;
}

/* Queries, keys and values of token i, or those that pad the window. */
INLINE const float *token(const Window *w, const Shape *s, const float *qkv, const float *shift,
                          int64_t i, int64_t head) {
    return (w->place[i] < 0 ? shift : qkv + w->place[i] * 3 * s->heads * s->d) + head * s->d;
}

/* Asks for token i: tokens are too short, and lie too far apart, for the processor to guess. */
INLINE void ask_for(const Window *w, const Shape *s, const float *qkv, int64_t i, int64_t head) {
    if (i >= w->N || w->place[i] < 0) return;
    for (int64_t part = 0; part < 3; part++) {
        const float *from = qkv + ((w->place[i] * 3 + part) * s->heads + head) * s->d;
        for (int64_t c = 0; c < s->d; c += 16) __builtin_prefetch(from + c);
    }
}

/* Keys (part 1) or values (part 2) of all tokens as columns of `to`, (d, Np). */
static void turn_part(const Window *w, const Shape *s, const float *qkv, const float *shift,
                      int64_t head, int64_t part, float *to) {
    int64_t offset = part * s->heads * s->d, i = 0;
    for (; i + 4 <= w->N; i += 4) {
        const float *from[4];
        for (int j = 0; j < 4; j++) from[j] = token(w, s, qkv, shift, i + j, head) + offset;
        turn_four(from, to + i, s->d, w->Np);
    }
    for (; i < w->N; i++) {
        const float *from = token(w, s, qkv, shift, i, head) + offset;
        for (int64_t c = 0; c < s->d; c++) to[c * w->Np + i] = from[c];
    }
}

/* Softmax of q k^T / sqrt(d) + bias into w->p for one head. */
static void attend(Window *w, const Shape *s, const float *qkv, const float *shift, int64_t head) {
    enum { AHEAD = 6 };
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp;
    float *q = w->q;
    for (int64_t i = 0; i < AHEAD; i++) ask_for(w, s, qkv, i, head);
    for (int64_t i = 0; i < N; i++) {
        ask_for(w, s, qkv, i + AHEAD, head);
        const float *from = token(w, s, qkv, shift, i, head);
        copy(w->v + i * dp, from + 2 * C, d, 1);
        if (w->place[i] < 0) continue;
        copy(q, from, d, s->factor);
        q += dp;
    }
    turn_part(w, s, qkv, shift, head, 1, w->kt);
    product(w->nq, Np, d, w->q, dp, 1, w->kt, Np, w->p, Np);
    for (int64_t i = 0; i < w->nq; i++)
        softmax(w->p + i * Np, w->bias + head * w->bias_stride + w->query[i] * Np, Np);
}

/* out = softmax(q k^T / sqrt(d) + bias) v in every window.
 * qkv: (B, H, W, 3, h, d). shift: (3, h, d), the bias of the projection. bias: (h, N, N) or NULL.
 * out: (B, H, W, h, d). */
int window_attention(const float *qkv, const float *shift, const float *bias, float *out, int64_t B,
                     int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh, int64_t Kw,
                     int64_t top, int64_t left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, top, left);
    int64_t N = Kh * Kw, windows = s.rows * s.cols, C = heads * d;
    float *filled = filled_up(bias, bias ? heads * N : N, N, ROUND_UP(N));
    if (!filled) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        failed = !new_window(&w, &s, 0);
        w.bias = filled, w.bias_stride = bias ? N * w.Np : 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < B * windows * heads; i++) {
            if (failed) continue;
            int64_t head = i % heads;
            locate(&w, &s, i / heads / windows, i / heads % windows);
            attend(&w, &s, qkv, shift, head);
            product(w.nq, w.dp, N, w.p, w.Np, 1, w.v, w.dp, w.q, w.dp);
            for (int64_t q = 0; q < w.nq; q++)
                copy(out + w.place[w.query[q]] * C + head * d, w.q + q * w.dp, d, 1);
        }
        if (!failed) free_window(&w);
    }
    free(filled);
    return failed;
}

/* Gradients of one window and head into qkv's, and added to those of shift and bias. */
static void attend_backward(Window *w, const Shape *s, const float *qkv, const float *shift,
                            const float *grad, float *grad_qkv, float *grad_shift, float *grad_bias,
                            int64_t head) {
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp, nq = w->nq;
    float *grad_q = w->grads, *grad_k = grad_q + N * dp, *grad_v = grad_k + N * dp;
    WHOLE_VECTORS(Np);
    for (int64_t i = 0; i < N; i++) {
        const float *from = token(w, s, qkv, shift, i, head);
        copy(w->k + i * dp, from + C, d, 1);
    }
    turn_part(w, s, qkv, shift, head, 2, w->vt);
    for (int64_t i = 0; i < nq; i++)
        copy(w->g + i * dp, grad + w->place[w->query[i]] * C + head * d, d, 1);
    product(N, dp, nq, w->p, 1, Np, w->g, dp, grad_v, dp);
    product(nq, Np, d, w->g, dp, 1, w->vt, Np, w->gp, Np);
    for (int64_t i = 0; i < nq; i++) {
        float *row = w->gp + i * Np, *p = w->p + i * Np, total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < Np; j++) total += row[j] * p[j];
        for (int64_t j = 0; j < Np; j++) row[j] = p[j] * (row[j] - total);
        if (grad_bias) {
            float *to = grad_bias + (head * N + w->query[i]) * Np;
            for (int64_t j = 0; j < Np; j++) to[j] += row[j];
        }
    }
    product(nq, dp, N, w->gp, Np, 1, w->k, dp, grad_q, dp);
    product(N, dp, nq, w->gp, 1, Np, w->q, dp, grad_k, dp);
    for (int64_t i = 0; i < nq; i++) {
        float *row = grad_q + i * dp;
        for (int64_t c = 0; c < d; c++) {
            row[c] *= s->factor;
            grad_shift[head * d + c] += row[c];
        }
        copy(grad_qkv + w->place[w->query[i]] * 3 * C + head * d, row, d, 1);
    }
    for (int64_t i = 0; i < N; i++) {
        float *sum = grad_shift + head * d;
        for (int64_t c = 0; c < d; c++) {
            sum[C + c] += grad_k[i * dp + c];
            sum[2 * C + c] += grad_v[i * dp + c];
        }
        if (w->place[i] < 0) continue;
        float *to = grad_qkv + w->place[i] * 3 * C + head * d;
        copy(to + C, grad_k + i * dp, d, 1);
        copy(to + 2 * C, grad_v + i * dp, d, 1);
    }
}

/* Backward of `window_attention`. grad: (B, H, W, h, d). grad_qkv: like qkv. grad_shift: (3, h, d),
 * its sum over all tokens, padded ones included. grad_bias: (h, N, N), or NULL as bias. */
int window_attention_backward(const float *qkv, const float *shift, const float *bias,
                              const float *grad, float *grad_qkv, float *grad_shift,
                              float *grad_bias, int64_t B, int64_t H, int64_t W, int64_t heads,
                              int64_t d, int64_t Kh, int64_t Kw, int64_t top, int64_t left,
                              int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, top, left);
    int64_t N = Kh * Kw, Np = ROUND_UP(N), C = heads * d, windows = s.rows * s.cols;
    int64_t tasks = B * windows * heads, own = 3 * C + (bias ? heads * N * Np : 0);
    float *filled = filled_up(bias, bias ? heads * N : N, N, Np);
    float *parts = zeros((size_t)threads * own);
    int failed = !filled || !parts;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int t = 0; t < threads; t++) {
        Window w;
        if (failed || !new_window(&w, &s, 1)) {
            failed = 1;
            continue;
        }
        w.bias = filled, w.bias_stride = bias ? N * Np : 0;
        float *own_shift = parts + t * own, *own_bias = bias ? own_shift + 3 * C : NULL;
        for (int64_t i = tasks * t / threads; i < tasks * (t + 1) / threads; i++) {
            int64_t head = i % heads;
            locate(&w, &s, i / heads / windows, i / heads % windows);
            attend(&w, &s, qkv, shift, head);
            attend_backward(&w, &s, qkv, shift, grad, grad_qkv, own_shift, own_bias, head);
        }
        free_window(&w);
    }
    if (!failed) {
        for (int t = 1; t < threads; t++)
            for (int64_t i = 0; i < own; i++) parts[i] += parts[t * own + i];
        memcpy(grad_shift, parts, 3 * C * sizeof(float));
        for (int64_t i = 0; bias && i < heads * N; i++)
            memcpy(grad_bias + i * N, parts + 3 * C + i * Np, N * sizeof(float));
    }
    free(filled), free(parts);
    return failed;
}
