/* Window attention in bfloat16 by AMX. See attention.c.
 *
 * Tokens of a window and numbers of a head are padded to whole tiles; padded tokens issue a query,
 * too, whose result is dropped. A window's logits are computed and used 16 rows at a time.
 */

#include "tiles.h"
#include "window.h"

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
    int failed = !bias;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        if (!failed) failed = !new_window(&w, s);
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
#endif
