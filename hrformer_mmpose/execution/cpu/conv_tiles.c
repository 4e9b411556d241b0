/* 3x3 convolution of maps in float32 by AMX. See common.h.
 *
 * Each factor is the sum of two bfloat16 numbers, its rounding `high` and that of the rest `low`.
 * Of the four products that of the rests is left out: errors of 2^-16 instead of bfloat16's 2^-8.
 *
 * Channels are processed in blocks of 32, a step of a product. A block of three rows of the input
 * fits into the first-level cache, from which all nine taps read it.
 */

#include "tiles.h"

#ifdef TILES
enum { TAPS = 9, BLOCK = 2 * SIDE, MOST_PIXELS = 4 * SIDE }; /* MOST_PIXELS: of a product */

typedef struct {
    const float *x, *bias;  /* bias: (Dp) */
    const unit *high, *low; /* weights: (Dp / 16, K, 9, 16, 16) */
    float *out;
    int64_t H, W, C, h, w, D, Dp, K, stride, relu;
    int64_t width; /* pixels of a row in the ring: with a zero at either side, in whole tiles */
} Conv;

typedef struct {
    unit *high, *low;    /* (3, K, width, 16): rows of the input, row y at y + 1 modulo 3 */
    int64_t row[3];      /* the row that each holds, counted over all maps with padding; or -1 */
    float *product;      /* (MOST_PIXELS, Dp) */
    const unit **pixels; /* (2, 9 K, tiles), operands of a product */
    float *memory;
} Rows;

static int new_rows(Rows *rows, const Conv *f) {
    int64_t size = 3 * f->width * SIDE * f->K;
    float *next = rows->memory = alloc_zeros(2 * size + MOST_PIXELS * f->Dp);
    rows->pixels = malloc(2 * TAPS * f->K * (MOST_PIXELS / SIDE) * sizeof(unit *));
    rows->high = (unit *)next, rows->low = (unit *)(next + size), rows->product = next + 2 * size;
    rows->row[0] = rows->row[1] = rows->row[2] = -1;
    return rows->memory && rows->pixels;
}

static void free_rows(Rows *rows) { free(rows->memory), free(rows->pixels); }

/* high + low = `count` numbers; both have room for a whole vector at their end. */
INLINE void split(const float *from, elem *high, elem *low, int64_t count) {
    FOR_VECTORS(count, {
        vec x = load_floats(from + c, n);
        store_elems(high + c, x, V);
        store_elems(low + c, x - load_elems(high + c, V), V);
    });
}

/* Let the ring hold row y of map b, zeros outside the map; return where. */
static int64_t load_row(Rows *rows, const Conv *f, int64_t b, int64_t y) {
    int64_t slot = (y + 1) % 3, size = f->width * SIDE * f->K, row = b * (f->H + 2) + y + 1;
    if (rows->row[slot] == row) return slot * size;
    rows->row[slot] = row;
    elem *high = (elem *)(rows->high + slot * size), *low = (elem *)(rows->low + slot * size);
    if (y < 0 || y >= f->H) {
        memset(high, 0, size * sizeof(unit)), memset(low, 0, size * sizeof(unit));
        return slot * size;
    }
    const float *from = f->x + (b * f->H + y) * f->W * f->C;
    for (int64_t i = 0; i < f->W; i++, from += f->C)
        for (int64_t c = 0, to = (i + 1) * BLOCK; c < f->C; c += BLOCK, to += f->width * BLOCK)
            split(from + c, high + to, low + to, MIN(BLOCK, f->C - c));
    return slot * size;
}

/* Row y of the result for map b. */
static void convolve_row(Rows *rows, const Conv *f, int64_t b, int64_t y) {
    int64_t D = f->D, steps = TAPS * f->K, starts[3];
    for (int64_t i = 0; i < 3; i++) starts[i] = load_row(rows, f, b, y * f->stride - 1 + i);
    for (int64_t x0 = 0; x0 < f->w; x0 += MOST_PIXELS) {
        int64_t count = MIN(MOST_PIXELS, f->w - x0), tiles = (count + SIDE - 1) / SIDE;
        const unit **high = rows->pixels, **low = high + steps * tiles;
        for (int64_t i = 0; i < steps; i++)
            for (int64_t j = 0, tap = i % TAPS; j < tiles; j++) {
                int64_t x = (x0 + j * SIDE) * f->stride + tap % 3;
                int64_t at = starts[tap / 3] + (i / TAPS * f->width + x) * SIDE;
                high[i * tiles + j] = rows->high + at, low[i * tiles + j] = rows->low + at;
            }
        for (int64_t d = 0; d < f->Dp; d += SIDE)
            multiply_split(tiles, steps, high, low, f->stride * SIDE, f->high + d * SIDE * steps,
                           f->low + d * SIDE * steps, rows->product + d, f->Dp);
        for (int64_t i = 0; i < count; i++) {
            const float *product = rows->product + i * f->Dp;
            float *out = f->out + ((b * f->h + y) * f->w + x0 + i) * D;
            FOR_VECTORS(D, {
                vec z = LOAD(product + c) + LOAD(f->bias + c);
                store_floats(out + c, f->relu ? where_negative(z, (vec){0}, z) : z, n);
            });
        }
    }
}

/* Weights (D, 9, C) in the layout of `multiply_split` for each 16 of D. */
static void pack_weights(const float *weight, unit *high, unit *low, int64_t D, int64_t C,
                         int64_t K, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t d = 0; d < D; d += SIDE)
        for (int64_t i = 0; i < TAPS * K; i++) {
            elem halves[2][SIDE][BLOCK] __attribute__((aligned(64))) = {0};
            unit rows[SIDE * SIDE] __attribute__((aligned(64))) = {0};
            const elem *from[2][SIDE];
            int64_t count = MIN(SIDE, D - d), c = i / TAPS * BLOCK, n = MIN(BLOCK, C - c);
            for (int64_t j = 0; j < SIDE; j++) {
                from[0][j] = halves[0][j], from[1][j] = halves[1][j];
                if (j < count)
                    split(weight + ((d + j) * TAPS + i % TAPS) * C + c, halves[0][j], halves[1][j],
                          n);
            }
            int64_t to = (d * TAPS * K + i * SIDE) * SIDE;
            pack_columns(from[0], SIDE, BLOCK, rows, SIDE, high + to, SIDE);
            pack_columns(from[1], SIDE, BLOCK, rows, SIDE, low + to, SIDE);
        }
}

/* out = conv(x), padding 1; relu: max(out, 0).
 * x: (B, H, W, C).
 * weight: (D, 9, C), taps in row-major order.
 * bias: (D).
 * out: (B, h, w, D) for h = ceil(H / stride). */
int conv3x3(const float *x, const float *weight, const float *bias, float *out, int64_t B,
            int64_t H, int64_t W, int64_t C, int64_t D, int64_t stride, int64_t relu, int threads) {
    if (B * H * W == 0) return 0;
    int64_t h = (H + stride - 1) / stride, w = (W + stride - 1) / stride, K = (C + 31) / 32;
    int64_t Dp = (D + SIDE - 1) / SIDE * SIDE, tiles = (w + SIDE - 1) / SIDE;
    int64_t size = Dp * TAPS * K * SIDE;
    unit *high = (unit *)alloc_zeros(2 * size), *low = high + size;
    float *padded = pad(bias, D, Dp);
    int failed = !high || !padded;
    if (!failed) pack_weights(weight, high, low, D, C, K, threads);
    Conv f = {x, padded, high, low, out, H, W, C, h, w, D, Dp, K, stride, relu,
              MAX(W, stride * SIDE * tiles) + 2};
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < active; k++) {
        Rows rows;
        if (!new_rows(&rows, &f)) {
            free_rows(&rows);
            failed = 1;
            continue;
        }
        begin_tiles();
        for (int64_t r = B * h * k / threads; r < B * h * (k + 1) / threads; r++)
            convolve_row(&rows, &f, r / h, r % h);
        end_tiles();
        free_rows(&rows);
    }
    free(high), free(padded);
    return failed;
}
#endif
