/* Tokens of a window at their positions in the map, and copies of their rows in the layouts that
 * products take. See attention.c.
 *
 * Products take their operands in units: a float, or a pair of bfloat16 numbers that are adjacent
 * along the axis of the sum, as AVX-512's and AMX's dot products take them. A matrix (n, m) of tokens
 * is packed in three ways: `rows` (n, m units), `groups` (n units, m), `columns` (m units, n). For
 * floats `rows` and `groups` are the same.
 */

#pragma once

#include "common.h"

#ifdef BFLOAT16
typedef uint32_t unit;
enum { GROUP = 2 }; /* numbers in a unit */
#else
typedef float unit;
enum { GROUP = 1 };
#endif
#define UNITS(n) (((n) + GROUP - 1) / GROUP)

typedef struct {
    int64_t B, H, W, heads, d, Kh, Kw, pad_top, pad_left, rows, cols;
    float scale; /* of the logits */
} Shape;

static inline Shape shape_of(int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                      int64_t Kw, int64_t pad_top, int64_t pad_left) {
    int64_t rows = (H + pad_top + Kh - 1) / Kh, cols = (W + pad_left + Kw - 1) / Kw;
    return (Shape){B, H, W, heads, d, Kh, Kw, pad_top, pad_left, rows, cols, 1 / sqrtf((float)d)};
}

typedef struct {
    int64_t N, nq;     /* tokens of a window, and those that issue a query */
    int64_t *position; /* index of each token in the batch of maps, -1 if padded */
    int64_t *query;    /* indices of the tokens that issue a query */
    const elem **row;  /* of each token: its queries, keys, values or gradients */
} Tokens;

static inline void free_tokens(Tokens *t) { free(t->position), free(t->row); }

static inline int new_tokens(Tokens *t, const Shape *s) {
    int64_t N = s->Kh * s->Kw;
    *t = (Tokens){N, 0, malloc(2 * N * sizeof(int64_t)), NULL, malloc((N + 1) * sizeof(elem *))};
    if (!t->position || !t->row) return 0;
    t->query = t->position + N;
    return 1;
}

/* Compute the positions of the tokens of window `index`, counted over all maps. */
static inline void locate_tokens(Tokens *t, const Shape *s, int64_t index) {
    int64_t b = index / (s->rows * s->cols), window = index % (s->rows * s->cols), i = 0;
    int64_t y0 = window / s->cols * s->Kh - s->pad_top, x0 = window % s->cols * s->Kw - s->pad_left;
    t->nq = 0;
    for (int64_t y = y0; y < y0 + s->Kh; y++)
        for (int64_t x = x0; x < x0 + s->Kw; x++, i++) {
            int inside = y >= 0 && y < s->H && x >= 0 && x < s->W;
            t->position[i] = inside ? (b * s->H + y) * s->W + x : -1;
            if (inside) t->query[t->nq++] = i;
        }
}

/* Let t->row be the queries (part 0), keys (1) or values (2) of all tokens; the projection bias
 * stands for those of a padded token. */
INLINE void select_part(Tokens *t, const Shape *s, const elem *qkv, const elem *qkv_bias,
                        int64_t head, int64_t part) {
    int64_t offset = (part * s->heads + head) * s->d;
    for (int64_t i = 0; i < t->N; i++)
        t->row[i] =
            (t->position[i] < 0 ? qkv_bias : qkv + t->position[i] * 3 * s->heads * s->d) + offset;
}

/* Let t->row be the rows of the tokens that issue a query; stride: numbers per token of the map. */
INLINE void select_queries(Tokens *t, const elem *map, int64_t stride) {
    for (int64_t i = 0; i < t->nq; i++) t->row[i] = map + t->position[t->query[i]] * stride;
}

/* to = n numbers, in whole vectors if n >= V. What follows them in the last unit must be 0. */
INLINE void copy_row(elem *to, const elem *from, int64_t n) {
    if (n < V) {
        for (int64_t i = 0; i < n; i++) to[i] = from[i];
        return;
    }
#ifdef BFLOAT16
    for (int64_t i = 0; i + V <= n; i += V) *(elems *)(to + i) = *(const elems *)(from + i);
    *(elems *)(to + n - V) = *(const elems *)(from + n - V); /* overlaps the previous store */
#else
    for (int64_t i = 0; i + V <= n; i += V) STORE(to + i, LOAD(from + i));
    STORE(to + n - V, LOAD(from + n - V));
#endif
}

/* Store n numbers, scaled. `from` has room for whole vectors. */
INLINE void store_row(elem *to, const float *from, int64_t n, float scale) {
    if (n < V) {
        store_elems(to, LOAD(from) * scale, n);
        return;
    }
    for (int64_t i = 0; i + V <= n; i += V) store_elems(to + i, LOAD(from + i) * scale, V);
    store_elems(to + n - V, LOAD(from + n - V) * scale, V); /* overlaps the previous store */
}

/* Pack n numbers of each of `count` rows; ld: units from a row of the result to the next. */
static inline void pack_rows(const elem *const *from, int64_t count, int64_t n, unit *to,
                             int64_t ld) {
    for (int64_t i = 0; i < count; i++) copy_row((elem *)(to + i * ld), from[i], n);
}

static inline void pack_groups(const elem *const *from, int64_t count, int64_t n, unit *to,
                               int64_t ld) {
#ifdef BFLOAT16
    for (int64_t i = 0; i < count; i += 2, to += ld) {
        const elem *first = from[i], *second = i + 1 < count ? from[i + 1] : NULL;
        int64_t start = 0;
        while (n >= V) {
            bits pair = __builtin_convertvector(*(const elems *)(first + start), bits);
            if (second)
                pair |= __builtin_convertvector(*(const elems *)(second + start), bits) << 16;
            memcpy(to + start, &pair, sizeof pair);
            if (start + V >= n) break;
            start = MIN(start + V, n - V); /* the last vector may overlap the one before */
        }
        for (int64_t c = 0; n < V && c < n; c++)
            to[c] = first[c] | (second ? (unit)second[c] << 16 : 0);
    }
#else
    pack_rows(from, count, n, to, ld);
#endif
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

/* rows: (count, ld_rows) units, whose last one is 0 beyond n numbers; not used for floats. */
static inline void pack_columns(const elem *const *from, int64_t count, int64_t n, unit *rows,
                         int64_t ld_rows, unit *to, int64_t ld) {
    int64_t i = 0, units = UNITS(n);
#ifdef BFLOAT16
    pack_rows(from, count, n, rows, ld_rows);
#define ROW(i) ((const float *)(rows + (i) * ld_rows))
#else
    (void)rows, (void)ld_rows;
#define ROW(i) (from[i])
#endif
    for (; i + 4 <= count; i += 4) {
        const float *four[4] = {ROW(i), ROW(i + 1), ROW(i + 2), ROW(i + 3)};
        transpose_4_rows(four, (float *)to + i, units, ld);
    }
    for (; i < count; i++)
        for (int64_t c = 0; c < units; c++) memcpy(to + c * ld + i, ROW(i) + c, sizeof(unit));
#undef ROW
}

/* See attention_tiles.c; defined where there are tiles. */
int window_attention_by_tiles(const Shape *s, const elem *qkv, const elem *qkv_bias,
                              const float *rel_pos_bias, elem *out, int threads);
