/* Matrix products in bfloat16 by AMX, a processor's unit for products of tiles. See attention.c.
 *
 * A tile has 16 rows of 64 bytes: 16 floats, or 16 units (window.h) of two bfloat16 numbers. TILES
 * is defined where the processor has AMX.
 */

#pragma once

#include "window.h"

enum { SIDE = 16 }; /* rows of a tile, and floats or units in its rows */

#if defined(TILES) /* set by the tests: the same products in plain C */
static inline int may_use_tiles(void) { return 1; }
static inline void begin_tiles(void) {}
static inline void end_tiles(void) {}

/* out = add, or 0, for (rows, columns) floats. */
static inline void start_tiles(int64_t rows, int64_t columns, const float *add, float *out,
                               int64_t ldo) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) out[i * ldo + j] = add ? add[i * ldo + j] : 0;
}

/* out += a b for tiles. */
static inline void multiply_tile(const uint32_t *a, int64_t lda, const uint32_t *b, int64_t ldb,
                                 float *out, int64_t ldo) {
    for (int64_t i = 0; i < SIDE; i++)
        for (int64_t j = 0; j < SIDE; j++)
            for (int64_t k = 0; k < 2 * SIDE; k++) {
                uint32_t pair[2] = {a[i * lda + k / 2], b[k / 2 * ldb + j]};
                float factors[2];
                for (int n = 0; n < 2; n++) pair[n] = k % 2 ? pair[n] & 0xffff0000 : pair[n] << 16;
                memcpy(factors, pair, sizeof pair);
                out[i * ldo + j] += factors[0] * factors[1];
            }
}

static inline void multiply_tiles(int64_t n, int64_t K, const uint32_t *a, const uint32_t *b,
                                  int64_t ldb, const float *add, float *out, int64_t ldo) {
    start_tiles(SIDE, SIDE * n, add, out, ldo);
    for (int64_t j = 0; j < SIDE * n; j += SIDE)
        for (int64_t k = 0; k < SIDE * K; k += SIDE)
            multiply_tile(a + k, SIDE * K, b + k * ldb + j, ldb, out + j, ldo);
}

static inline void multiply_packed(int64_t m, int64_t n, int64_t K, const uint32_t *a,
                                   const uint32_t *b, float *out, int64_t ldo) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            multiply_tiles(1, K, a + i * SIDE * SIDE * K, b + j * SIDE * SIDE * K, SIDE, NULL,
                           out + (i * ldo + j) * SIDE, ldo);
}

static inline void multiply_split(int64_t m, int64_t steps, const uint32_t *const *high,
                                  const uint32_t *const *low, int64_t lda, const uint32_t *b_high,
                                  const uint32_t *b_low, float *out, int64_t ldo) {
    start_tiles(SIDE * m, SIDE, NULL, out, ldo);
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < steps; k++) {
            const uint32_t *a_high = high[k * m + i], *a_low = low[k * m + i];
            const uint32_t *tile_high = b_high + k * SIDE * SIDE;
            const uint32_t *tile_low = b_low + k * SIDE * SIDE;
            float *to = out + i * SIDE * ldo;
            multiply_tile(a_high, lda, tile_high, SIDE, to, ldo);
            multiply_tile(a_high, lda, tile_low, SIDE, to, ldo);
            multiply_tile(a_low, lda, tile_high, SIDE, to, ldo);
        }
}
#elif defined(BFLOAT16) && V == 16 && defined(__AMX_BF16__) && defined(__linux__)
#define TILES
#include <sys/syscall.h>
#include <unistd.h>

/* Ask Linux once for the registers of the tiles; return whether this process may use them. */
static inline int may_use_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    static int answer = -1; /* threads that ask at the same time get the same answer */
    if (answer < 0)
        answer = !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
    return answer;
}

/* Before and after a thread's products. All eight tiles have the full size. */
static inline void begin_tiles(void) {
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

static inline void end_tiles(void) { __asm__ volatile("tilerelease" ::: "memory"); }

/* GCC's own macros do not tell the compiler that a load reads memory. */
#define TILE_LOAD(tile, from, stride)                                                           \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"((int64_t)(stride) * 4) \
                     : "memory")
#define TILE_STORE(tile, to, stride)                                                           \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"((int64_t)(stride) * 4) \
                     : "memory")
#define TILE_ZERO(tile) __asm__ volatile("tilezero %tmm" #tile)
#define TILE_MULTIPLY_ADD(sum, a, b) \
    __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #sum)
/* The operation for tiles 0 to n - 1, at most four: their numbers are part of the instructions. */
#define FOR_TILES(n, OPERATION)        \
    do {                               \
        if ((n) > 0) { OPERATION(0); } \
        if ((n) > 1) { OPERATION(1); } \
        if ((n) > 2) { OPERATION(2); } \
        if ((n) > 3) { OPERATION(3); } \
    } while (0)

/* Up to four tiles of a row of tiles; see `multiply_tiles`. */
INLINE void multiply_row(int n, int64_t K, const uint32_t *a, const uint32_t *b, int64_t ldb,
                         const float *add, float *out, int64_t ldo) {
#define LOAD_SUM(tile) TILE_LOAD(tile, add + tile * SIDE, ldo)
    if (add)
        FOR_TILES(n, LOAD_SUM);
    else
        FOR_TILES(n, TILE_ZERO);
#undef LOAD_SUM
    for (int64_t k = 0; k < K; k++, a += SIDE, b += SIDE * ldb) {
        TILE_LOAD(4, a, K * SIDE);
#define STEP(tile, of_b)                             \
    if (n > tile) {                                  \
        TILE_LOAD(of_b, b + tile * SIDE, ldb);       \
        TILE_MULTIPLY_ADD(tile, 4, of_b);            \
    }
        STEP(0, 5) STEP(1, 6) STEP(2, 7) STEP(3, 5)
#undef STEP
    }
#define FINISH(tile) TILE_STORE(tile, out + tile * SIDE, ldo)
    FOR_TILES(n, FINISH);
#undef FINISH
}

/* out = add + a b, for 16 rows.
 * n, K: tiles along a row of out, and along the axis of the sum.
 * a: (16, 16 K) units.
 * b: (16 K, 16 n) units, leading dimension ldb.
 * add, out: (16, 16 n) floats, leading dimension ldo; add is NULL for 0. */
static inline void multiply_tiles(int64_t n, int64_t K, const uint32_t *a, const uint32_t *b,
                                  int64_t ldb, const float *add, float *out, int64_t ldo) {
    for (; n > 0; n -= 4, b += 4 * SIDE, out += 4 * SIDE) {
        switch (MIN(n, 4)) {
        case 4: multiply_row(4, K, a, b, ldb, add, out, ldo); break;
        case 3: multiply_row(3, K, a, b, ldb, add, out, ldo); break;
        case 2: multiply_row(2, K, a, b, ldb, add, out, ldo); break;
        default: multiply_row(1, K, a, b, ldb, add, out, ldo);
        }
        if (add) add += 4 * SIDE;
    }
}

/* A column of up to four tiles; see `multiply_packed`. */
INLINE void multiply_column(int m, int64_t K, const uint32_t *a, const uint32_t *b, float *out,
                            int64_t ldo) {
    const int64_t block = SIDE * SIDE * K;
    FOR_TILES(m, TILE_ZERO);
    for (int64_t k = 0; k < K; k++, a += SIDE, b += SIDE * SIDE) {
        TILE_LOAD(4, b, SIDE);
#define STEP(tile, of_a)                                    \
    if (m > tile) {                                         \
        TILE_LOAD(of_a, a + tile * block, K * SIDE);        \
        TILE_MULTIPLY_ADD(tile, of_a, 4);                   \
    }
        STEP(0, 5) STEP(1, 6) STEP(2, 7) STEP(3, 5)
#undef STEP
    }
#define FINISH(tile) TILE_STORE(tile, out + tile * SIDE * ldo, ldo)
    FOR_TILES(m, FINISH);
#undef FINISH
}

/* out = a b.
 * m: tiles along a column of out, up to 4; n: along a row; K: along the axis of the sum.
 * a: (16 m, 16 K) units.
 * b: (n, 16 K, 16) units.
 * out: (16 m, 16 n) floats, leading dimension ldo. */
static inline void multiply_packed(int64_t m, int64_t n, int64_t K, const uint32_t *a,
                                   const uint32_t *b, float *out, int64_t ldo) {
    for (; n > 0; n--, b += SIDE * SIDE * K, out += SIDE) {
        switch (m) {
        case 4: multiply_column(4, K, a, b, out, ldo); break;
        case 3: multiply_column(3, K, a, b, out, ldo); break;
        case 2: multiply_column(2, K, a, b, out, ldo); break;
        default: multiply_column(1, K, a, b, out, ldo);
        }
    }
}

/* Up to four tiles of a column; see `multiply_split`. */
INLINE void multiply_split_column(int m, int64_t steps, const uint32_t *const *high,
                                  const uint32_t *const *low, int64_t lda, const uint32_t *b_high,
                                  const uint32_t *b_low, float *out, int64_t ldo) {
    FOR_TILES(m, TILE_ZERO);
    for (int64_t k = 0; k < steps; k++, b_high += SIDE * SIDE, b_low += SIDE * SIDE) {
        TILE_LOAD(4, b_high, SIDE);
        TILE_LOAD(5, b_low, SIDE);
#define STEP(tile)                         \
    TILE_LOAD(6, high[k * m + tile], lda); \
    TILE_MULTIPLY_ADD(tile, 6, 4);         \
    TILE_LOAD(7, low[k * m + tile], lda);  \
    TILE_MULTIPLY_ADD(tile, 6, 5);         \
    TILE_MULTIPLY_ADD(tile, 7, 4)
        FOR_TILES(m, STEP);
#undef STEP
    }
#define FINISH(tile) TILE_STORE(tile, out + tile * SIDE * ldo, ldo)
    FOR_TILES(m, FINISH);
#undef FINISH
}

/* out = the sum over k of (a_high + a_low) b_high + a_high b_low, for 16 columns.
 * m: tiles along the column, up to 4; steps: number of terms k.
 * high, low: (steps, m), pointers to the tiles of a_high and a_low, whose leading dimension is lda.
 * b_high, b_low: (steps, 16, 16) units.
 * out: (16 m, 16) floats, leading dimension ldo. */
static inline void multiply_split(int64_t m, int64_t steps, const uint32_t *const *high,
                                  const uint32_t *const *low, int64_t lda, const uint32_t *b_high,
                                  const uint32_t *b_low, float *out, int64_t ldo) {
    switch (m) {
    case 4: multiply_split_column(4, steps, high, low, lda, b_high, b_low, out, ldo); break;
    case 3: multiply_split_column(3, steps, high, low, lda, b_high, b_low, out, ldo); break;
    case 2: multiply_split_column(2, steps, high, low, lda, b_high, b_low, out, ldo); break;
    default: multiply_split_column(1, steps, high, low, lda, b_high, b_low, out, ldo);
    }
}
#endif

#ifdef TILES
/* A copy of n numbers with zeros up to `padded`. */
static inline float *pad(const float *from, int64_t n, int64_t padded) {
    float *to = alloc_zeros(padded);
    return to ? memcpy(to, from, n * sizeof(float)) : to;
}

/* Rows (D, C) of a weight in the layout of `multiply_packed`: (D / 16, K, 16, 16) units. What lies
 * beyond D and C in `to` must be 0 before. */
static inline void pack_weight(const elem *weight, int64_t D, int64_t C, unit *to) {
    for (int64_t d = 0; d < D; d += SIDE)
        for (int64_t c = 0; c < C; c += 2 * SIDE, to += SIDE * SIDE) {
            unit rows[SIDE * SIDE] __attribute__((aligned(64))) = {0};
            const elem *from[SIDE];
            for (int64_t i = 0; i < SIDE; i++) from[i] = weight + (d + i) * C + c;
            pack_columns(from, MIN(SIDE, D - d), MIN(2 * SIDE, C - c), rows, SIDE, to, SIDE);
        }
}
#else
static inline int may_use_tiles(void) { return 0; }
#endif
