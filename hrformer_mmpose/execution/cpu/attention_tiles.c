/* Window attention in bfloat16 by AMX. See attention.c.
 *
 * Tokens of a window and numbers of a head are padded to whole tiles; padded tokens issue a query,
 * too, whose result is dropped. A window's logits are computed and used 16 rows at a time.
 */

#include "rows.h"
#include "tiles.h"

#ifdef TILES
typedef struct {
    Tokens t;
    int64_t Np, dr, dp; /* tokens; units of a row of queries or keys; columns of the result */
    unit *q, *kt, *v;   /* rows (Np, dr), columns (dr, Np), groups (Np / 2, dp) */
    unit *keys;         /* (N, dr), for `pack_columns` */
    float *logits;      /* (16, Np) */
    unit *p;            /* rows (16, Np / 2): the softmax, not divided by its sum */
    float *out;         /* (16, dp): p v, then the sums of p, then zeros */
    float *memory;
} Window;

static void free_window(Window *w) { free_tokens(&w->t), free(w->memory); }

static int64_t padded_tokens(const Shape *s) { return (s->Kh * s->Kw + 31) / 32 * 32; }

static int new_window(Window *w, const Shape *s) {
    memset(w, 0, sizeof *w);
    int64_t Np = w->Np = padded_tokens(s), dr = w->dr = (s->d + 31) / 32 * SIDE;
    int64_t dp = w->dp = (s->d + SIDE) / SIDE * SIDE, N = s->Kh * s->Kw;
    float *next = w->memory =
        alloc_zeros(2 * Np * dr + N * dr + Np / 2 * dp + SIDE * (Np + Np / 2 + dp));
    if (!new_tokens(&w->t, s) || !next) {
        free_window(w);
        return 0;
    }
#define TAKE(array, n) w->array = (void *)next, next += (n)
    TAKE(q, Np * dr), TAKE(kt, Np * dr), TAKE(v, Np / 2 * dp), TAKE(keys, N * dr);
    TAKE(logits, SIDE * Np), TAKE(p, SIDE * Np / 2), TAKE(out, SIDE * dp);
#undef TAKE
    /* A column of ones beside the values: its product is the sum of the softmax. */
    const elem one = 0x3f80;
    for (int64_t i = 0; i < N; i++) ((elem *)(w->v + i / 2 * dp + s->d))[i % 2] = one;
    return 1;
}

/* Bias (h, N, N) padded to (h, Np, Np), with -inf in the extra columns so that the softmax ignores
 * them, and divided by the scale of the logits: products are added to it before they are scaled.
 * Without a bias h is 1. */
static float *scaled_bias(const float *rel_pos_bias, int64_t h, const Shape *s, int threads) {
    int64_t N = s->Kh * s->Kw, Np = padded_tokens(s);
    float *to = alloc_zeros(h * Np * Np), factor = 1 / s->scale;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < (to ? h * Np : 0); i++) {
        float *row = to + i * Np;
        const float *from = rel_pos_bias + (i / Np * N + i % Np) * N;
        for (int64_t j = 0; rel_pos_bias && i % Np < N && j < N; j++) row[j] = from[j] * factor;
        for (int64_t j = N; j < Np; j++) row[j] = -INFINITY;
    }
    return to;
}

static void pack(Window *w, const Shape *s, const elem *qkv, const elem *qkv_bias, int64_t head) {
    Tokens *t = &w->t;
    select_part(t, s, qkv, qkv_bias, head, 0);
    pack_rows(t->row, t->N, s->d, w->q, w->dr);
    select_part(t, s, qkv, qkv_bias, head, 1);
    pack_columns(t->row, t->N, s->d, w->keys, w->dr, w->kt, w->Np);
    select_part(t, s, qkv, qkv_bias, head, 2);
    pack_groups(t->row, t->N, s->d, w->v, w->dp);
}

/* to = 2^(scale row), divided by the largest, for n numbers, whole vectors. */
INLINE void exp2_row(const float *row, float scale, elem *to, int64_t n) {
    vec largest = SPLAT(-INFINITY);
    for (int64_t j = 0; j < n; j += V) largest = VEC_MAX(LOAD(row + j), largest); /* ignores NaN */
    float most = max_lanes(largest) * scale;
    for (int64_t j = 0; j < n; j += V)
        store_elems(to + j, fast_exp2(LOAD(row + j) * scale - most), V);
}

/* One head of a window that is packed. bias: (Np, Np), see `scaled_bias`. */
static void attend(Window *w, const Shape *s, const float *bias, elem *out, int64_t head) {
    const float scale = s->scale * 1.44269504088896341f; /* 1 / ln 2: exponentials of base 2 */
    int64_t N = w->t.N, Np = w->Np, dp = w->dp, d = s->d;
    for (int64_t start = 0; start < N; start += SIDE) {
        int64_t rows = MIN(SIDE, N - start);
        multiply_tiles(Np / SIDE, w->dr / SIDE, w->q + start * w->dr, w->kt, Np, bias + start * Np,
                       w->logits, Np);
        for (int64_t i = 0; i < rows; i++)
            exp2_row(w->logits + i * Np, scale, (elem *)(w->p + i * Np / 2), Np);
        multiply_tiles(dp / SIDE, Np / 32, w->p, w->v, dp, NULL, w->out, dp);
        for (int64_t i = 0; i < rows; i++) {
            const float *row = w->out + i * dp;
            int64_t position = w->t.position[start + i];
            if (position >= 0)
                store_row(out + (position * s->heads + head) * d, row, d, 1 / row[d]);
        }
    }
}

/* `window_attention` by AMX. */
int window_attention_by_tiles(const Shape *s, const elem *qkv, const elem *qkv_bias,
                              const float *rel_pos_bias, elem *out, int threads) {
    int64_t heads = s->heads, tasks = s->B * s->rows * s->cols * heads, Np = padded_tokens(s);
    float *bias = scaled_bias(rel_pos_bias, rel_pos_bias ? heads : 1, s, threads);
    if (!bias) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        failed = !new_window(&w, s);
        begin_tiles();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tasks; i++) {
            if (failed) continue;
            int64_t head = i % heads;
            locate_tokens(&w.t, s, i / heads);
            pack(&w, s, qkv, qkv_bias, head);
            attend(&w, s, bias + (rel_pos_bias ? head * Np * Np : 0), out, head);
        }
        end_tiles();
        if (!failed) free_window(&w);
    }
    free(bias);
    return failed;
}

/* LayerNorm and projection to queries, keys and values; numbers are padded to tiles. */
typedef struct {
    const float *stream, *gamma, *beta;
    /* By head: weights (dq / 16, K, 16, 16), rows (dq, 16 K), (dp / 16, K, 16, 16); the biases. */
    unit *q, *k, *v;
    float *bias; /* (dq), (dq), (dp) */
    float eps;
    int64_t C, K, dq, dp;
    unit *x, *xt, *rows; /* by thread: rows (Np, 16 K), columns (16 K, Np), (N, 16 K) */
    float *product;      /* by thread: (Np, dp) or (dq, Np) */
    float *memory;
} Projection;

static int new_projection(Projection *p, const Shape *s, const elem *weight, const float *bias,
                          int threads) {
    int64_t d = s->d, h = s->heads, C = p->C = h * d, K = p->K = (C + 31) / 32;
    int64_t Np = padded_tokens(s);
    int64_t dq = p->dq = (d + SIDE - 1) / SIDE * SIDE, dp = p->dp = (d + SIDE) / SIDE * SIDE;
    int64_t row = SIDE * K, weights = h * (2 * dq + dp) * row, per_thread = 3 * Np * row + Np * dp;
    float *next = p->memory = alloc_zeros(weights + h * (2 * dq + dp) + threads * per_thread);
    if (!next) return 0;
    p->q = (unit *)next, next += h * dq * row;
    p->k = (unit *)next, next += h * dq * row;
    p->v = (unit *)next, next += h * dp * row;
    p->x = (unit *)next, next += threads * Np * row;
    p->xt = (unit *)next, next += threads * Np * row;
    p->rows = (unit *)next, next += threads * Np * row;
    p->product = next, next += threads * Np * dp;
    p->bias = next;
    for (int64_t i = 0; i < h; i++) {
        pack_weight(weight + i * d * C, d, C, p->q + i * dq * row);
        for (int64_t c = 0; c < d; c++)
            copy_row((elem *)(p->k + (i * dq + c) * row), weight + (C + i * d + c) * C, C);
        pack_weight(weight + (2 * C + i * d) * C, d, C, p->v + i * dp * row);
        float *to = p->bias + i * (2 * dq + dp);
        memcpy(to, bias + i * d, d * sizeof(float));
        memcpy(to + dq, bias + C + i * d, d * sizeof(float));
        memcpy(to + 2 * dq, bias + 2 * C + i * d, d * sizeof(float));
        to[2 * dq + d] = 1; /* the column of ones beside the values */
    }
    return 1;
}

/* The tokens of a window, normalised; 0 for padded ones, whose projection is the bias. */
static void normalise(Window *w, const Shape *s, const Projection *p, int thread) {
    int64_t row = SIDE * p->K, Np = w->Np, N = w->t.N;
    unit *x = p->x + thread * Np * row;
    for (int64_t i = 0; i < N; i++) {
        elem *to = (elem *)(x + i * row);
        float mean, rstd;
        if (w->t.position[i] < 0)
            memset(to, 0, row * sizeof(unit));
        else
            layer_norm_row(p->stream + w->t.position[i] * p->C, 0, p->gamma, p->beta, to, p->eps,
                           p->C, &mean, &rstd);
        w->t.row[i] = to;
    }
    pack_columns(w->t.row, N, p->C, p->rows + thread * Np * row, row, p->xt + thread * Np * row,
                 Np);
}

/* Both numbers, rounded, in a unit. */
INLINE void store_units(unit *to, vec low, vec high) {
    bits pair = __builtin_convertvector(narrow(low), bits);
    pair |= __builtin_convertvector(narrow(high), bits) << 16;
    memcpy(to, &pair, sizeof pair);
}

/* Queries, keys and values of a head in the layouts of `attend`. */
static void project(Window *w, const Projection *p, int64_t head, int thread) {
    int64_t K = p->K, row = SIDE * K, Np = w->Np, dq = p->dq, dp = p->dp;
    const unit *x = p->x + thread * Np * row, *xt = p->xt + thread * Np * row;
    const float *bias = p->bias + head * (2 * dq + dp);
    float *product = p->product + thread * Np * dp;
    for (int64_t i = 0; i < Np; i += 4 * SIDE)
        multiply_packed(MIN(4, (Np - i) / SIDE), dq / SIDE, K, x + i * row,
                        p->q + head * dq * row, product + i * dq, dq);
    for (int64_t i = 0; i < w->t.N; i++)
        for (int64_t c = 0; c < dq; c += V)
            store_elems((elem *)(w->q + i * w->dr) + c,
                        LOAD(product + i * dq + c) + LOAD(bias + c), V);
    for (int64_t c = 0; c < dq; c += SIDE)
        multiply_tiles(Np / SIDE, K, p->k + (head * dq + c) * row, xt, Np, NULL, product + c * Np,
                       Np);
    bias += dq;
    for (int64_t c = 0; c < dq; c += 2) {
        const float *first = product + c * Np, *second = first + Np;
        for (int64_t i = 0; i < Np; i += V)
            store_units(w->kt + c / 2 * Np + i, LOAD(first + i) + bias[c],
                        LOAD(second + i) + bias[c + 1]);
    }
    bias += dq;
    for (int64_t i = 0; i < Np; i += 4 * SIDE)
        multiply_packed(MIN(4, (Np - i) / SIDE), dp / SIDE, K, x + i * row,
                        p->v + head * dp * row, product + i * dp, dp);
    for (int64_t i = 0; i < Np; i += 2) {
        const float *first = product + i * dp, *second = first + dp;
        for (int64_t c = 0; c < dp; c += V)
            store_units(w->v + i / 2 * dp + c, LOAD(first + c) + LOAD(bias + c),
                        LOAD(second + c) + LOAD(bias + c));
    }
}

/* out = attention of LayerNorm(stream) in every window, without its output projection.
 * qkv_weight: (3, h, d, C), bfloat16.
 * qkv_bias: (3, h, d).
 * rel_pos_bias: (h, N, N) or NULL.
 * stream: (B, H, W, C), floats.
 * out: (B, H, W, h, d). */
int norm_attention(const elem *qkv_weight, const float *qkv_bias, const float *rel_pos_bias,
                   const float *stream, const float *gamma, const float *beta, elem *out,
                   double eps, int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d,
                   int64_t Kh, int64_t Kw, int64_t pad_top, int64_t pad_left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, pad_top, pad_left);
    Projection p = {.stream = stream, .gamma = gamma, .beta = beta, .eps = eps};
    int64_t tasks = B * s.rows * s.cols, Np = padded_tokens(&s);
    float *bias = scaled_bias(rel_pos_bias, rel_pos_bias ? heads : 1, &s, threads);
    int failed = !new_projection(&p, &s, qkv_weight, qkv_bias, threads) || !bias;
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < active; k++) {
        Window w;
        if (!new_window(&w, &s)) {
            failed = 1;
            continue;
        }
        begin_tiles();
        for (int64_t i = tasks * k / threads; i < tasks * (k + 1) / threads; i++) {
            locate_tokens(&w.t, &s, i);
            normalise(&w, &s, &p, k);
            for (int64_t head = 0; head < heads; head++) {
                project(&w, &p, head, k);
                attend(&w, &s, bias + (rel_pos_bias ? head * Np * Np : 0), out, head);
            }
        }
        end_tiles();
        free_window(&w);
    }
    free(bias), free(p.memory);
    return failed;
}
#endif
