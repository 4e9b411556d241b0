/* What a block computes after its attention, in bfloat16 by AMX, in one pass over the residual
 * stream. See common.h.
 *
 * A thread processes consecutive rows of a map, `rows` at a time. A ring holds what the depth-wise
 * convolution needs of the FFN's hidden map, with a column of zeros at either side; that map is not
 * stored. C channels of the stream, D hidden ones; Cp and Dp are padded to whole tiles.
 */

#include "rows.h"
#include "tiles.h"

#ifdef TILES
enum { MOST_TOKENS = 4 * SIDE }; /* of a product */

typedef struct {
    const float *stream, *gamma, *beta;
    const float *proj_bias, *bias1, *taps, *bias2; /* (Cp), (Dp), (10, Dp) with conv_bias, (Cp) */
    const elem *attention;
    const unit *proj, *weight1; /* (Cp / 16, K1, 16, 16), (Dp / 16, K1, 16, 16) */
    const unit *weight2;        /* (Cp / 16, K2, 16, 16) */
    float *out, eps;
    int64_t H, W, C, Cp, Dp, K1, K2, rows;
} Block;

typedef struct {
    unit *in, *hidden; /* rows (rows W, 16 K1) and (rows W, 16 K2), padded to whole tiles */
    float *ring;       /* (rows + 2, W + 2, Dp): the hidden map, row y at y + 1 modulo rows + 2 */
    float *stream;     /* (rows + 2, W, Cp): of the stream with the attention's branch, likewise */
    float *product;    /* (MOST_TOKENS, Cp) */
    float *memory;
} Buffers;

static int new_buffers(Buffers *buffers, const Block *f) {
    int64_t tokens = (MAX(f->rows, 2) * f->W + MOST_TOKENS - 1) / MOST_TOKENS * MOST_TOKENS;
    int64_t in = tokens * SIDE * f->K1, hidden = tokens * SIDE * f->K2;
    int64_t ring = (f->rows + 2) * (f->W + 2) * f->Dp, stream = (f->rows + 2) * f->W * f->Cp;
    float *next = alloc_zeros(in + hidden + ring + stream + MOST_TOKENS * f->Cp);
    buffers->memory = next;
    buffers->in = (unit *)next, next += in;
    buffers->hidden = (unit *)next, next += hidden;
    buffers->ring = next, next += ring;
    buffers->stream = next, next += stream;
    buffers->product = next;
    return buffers->memory != NULL;
}

static float *ring_row(const Buffers *buffers, const Block *f, int64_t y) {
    return buffers->ring + (y + 1) % (f->rows + 2) * (f->W + 2) * f->Dp;
}

static float *stream_row(const Buffers *buffers, const Block *f, int64_t y) {
    return buffers->stream + (y + 1) % (f->rows + 2) * f->W * f->Cp;
}

/* Row y of the stream: stream + proj(attention). first: index of its first token. */
static void add_attention(Buffers *buffers, const Block *f, int64_t y, int64_t first) {
    int64_t C = f->C, Cp = f->Cp, row = SIDE * f->K1;
    for (int64_t t0 = 0; t0 < f->W; t0 += MOST_TOKENS) {
        int64_t count = MIN(MOST_TOKENS, f->W - t0);
        for (int64_t t = 0; t < count; t++)
            copy_row((elem *)(buffers->in + t * row), f->attention + (first + t0 + t) * C, C);
        multiply_packed((count + SIDE - 1) / SIDE, Cp / SIDE, f->K1, buffers->in, f->proj,
                        buffers->product, Cp);
        for (int64_t t = 0; t < count; t++) {
            const float *product = buffers->product + t * Cp;
            const float *from = f->stream + (first + t0 + t) * C;
            float *to = stream_row(buffers, f, y) + (t0 + t) * Cp;
            FOR_VECTORS(C, {
                vec x = load_floats(from + c, n) + LOAD(product + c) + LOAD(f->proj_bias + c);
                STORE(to + c, x);
            });
        }
    }
}

/* Store gelu(product + bias) of `count` tokens in the ring, for 16 channels from d. first: index of
 * the first token in its map. */
static void store_hidden(const Buffers *buffers, const Block *f, int64_t first, int64_t count,
                         int64_t d) {
    const float *product = buffers->product;
    int64_t y = first / f->W, x = first % f->W;
    while (count > 0) {
        float *to = ring_row(buffers, f, y++) + (x + 1) * f->Dp + d;
        int64_t run = MIN(f->W - x, count); /* tokens in the same row */
        for (int64_t t = 0; t < run; t++, product += SIDE, to += f->Dp)
            for (int64_t c = 0; c < SIDE; c += V)
                STORE(to + c, gelu(LOAD(product + c) + LOAD(f->bias1 + d + c)));
        count -= run, x = 0;
    }
}

/* Fill the ring with gelu(fc1(LayerNorm)) of rows y to end - 1 of map b; zeros outside the map. */
static void expand_rows(Buffers *buffers, const Block *f, int64_t b, int64_t y, int64_t end) {
    int64_t W = f->W, C = f->C, Dp = f->Dp;
    for (; y < end && (y < 0 || y >= f->H); y++)
        memset(ring_row(buffers, f, y), 0, (W + 2) * Dp * sizeof(float));
    if (y < end && end > f->H) {
        expand_rows(buffers, f, b, f->H, end);
        end = f->H;
    }
    if (y >= end) return;
    int64_t tokens = (end - y) * W;
    for (int64_t i = y; i < end; i++) add_attention(buffers, f, i, (b * f->H + i) * W);
    for (int64_t t = 0; t < tokens; t++) {
        const float *row = stream_row(buffers, f, y + t / W) + t % W * f->Cp;
        float mean, rstd;
        layer_norm_row(row, 0, f->gamma, f->beta, (elem *)(buffers->in + t * SIDE * f->K1), f->eps,
                       C, &mean, &rstd);
    }
    for (int64_t t0 = 0; t0 < tokens; t0 += MOST_TOKENS) {
        int64_t count = MIN(MOST_TOKENS, tokens - t0);
        for (int64_t d = 0; d < Dp; d += SIDE) {
            multiply_packed((count + SIDE - 1) / SIDE, 1, f->K1, buffers->in + t0 * SIDE * f->K1,
                            f->weight1 + d * SIDE * f->K1, buffers->product, SIDE);
            store_hidden(buffers, f, y * W + t0, count, d);
        }
    }
}

/* Convolve rows y to end - 1, multiply by fc2 and add to the stream. */
static void contract_rows(Buffers *buffers, const Block *f, int64_t b, int64_t y, int64_t end) {
    int64_t W = f->W, C = f->C, Cp = f->Cp, Dp = f->Dp;
    int64_t tokens = (end - y) * W, first = (b * f->H + y) * W;
    for (int64_t row = y; row < end; row++) {
        elem *to = (elem *)buffers->hidden + (row - y) * W * Dp;
        for (int64_t c = 0; c < Dp; c += V) {
            const float *in[3];
            for (int i = 0; i < 3; i++) in[i] = ring_row(buffers, f, row - 1 + i) + c;
            conv_row(in, f->taps + c, LOAD(f->taps + 9 * Dp + c), 1, to + c, W, Dp, Dp, V);
        }
    }
    for (int64_t t0 = 0; t0 < tokens; t0 += MOST_TOKENS) {
        int64_t count = MIN(MOST_TOKENS, tokens - t0);
        multiply_packed((count + SIDE - 1) / SIDE, Cp / SIDE, f->K2,
                        buffers->hidden + t0 * SIDE * f->K2, f->weight2, buffers->product, Cp);
        for (int64_t t = 0; t < count; t++) {
            const float *product = buffers->product + t * Cp;
            const float *stream = stream_row(buffers, f, y + (t0 + t) / W) + (t0 + t) % W * Cp;
            float *out = f->out + (first + t0 + t) * C;
            FOR_VECTORS(C, {
                vec x = LOAD(stream + c) + gelu(LOAD(product + c) + LOAD(f->bias2 + c));
                store_floats(out + c, x, n);
            });
        }
    }
}

/* A copy of a weight (D, C) in the layout of `multiply_packed`, D padded. */
static unit *packed_weight(const elem *weight, int64_t D, int64_t C, int64_t padded, int threads) {
    int64_t K = (C + 31) / 32;
    unit *to = (unit *)alloc_zeros(padded * SIDE * K);
#pragma omp parallel for num_threads(threads)
    for (int64_t d = 0; d < (to ? D : 0); d += SIDE)
        pack_weight(weight + d * C, MIN(SIDE, D - d), C, to + d * SIDE * K);
    return to;
}

/* out = x + gelu(fc2(gelu(conv(gelu(fc1(LayerNorm(x))))))) for x = stream + proj(attention).
 * attention: (B, H, W, C).
 * stream, out: (B, H, W, C), floats.
 * proj, weight1, weight2: (C, C), (D, C) and (C, D), bfloat16.
 * conv_weight: (D, 9). */
int finish_block(const elem *attention, const float *stream, const elem *proj,
                 const float *proj_bias, const float *gamma, const float *beta, const elem *weight1,
                 const float *bias1, const float *conv_weight, const float *conv_bias,
                 const elem *weight2, const float *bias2, float *out, double eps, int64_t B,
                 int64_t H, int64_t W, int64_t C, int64_t D, int threads) {
    if (B * H * W == 0) return 0;
    int64_t Cp = (C + SIDE - 1) / SIDE * SIDE, Dp = (D + 31) / 32 * 32;
    int64_t rows = W < MOST_TOKENS ? MOST_TOKENS / W : 1;
    if (rows > H) rows = H;
    float *taps = alloc_zeros(10 * Dp), *padded_proj = pad(proj_bias, C, Cp);
    float *padded1 = pad(bias1, D, Dp), *padded2 = pad(bias2, C, Cp);
    unit *packed_proj = packed_weight(proj, C, C, Cp, threads);
    unit *packed1 = packed_weight(weight1, D, C, Dp, threads);
    unit *packed2 = packed_weight(weight2, C, D, Cp, threads);
    int failed = !taps || !padded_proj || !padded1 || !padded2;
    failed |= !packed_proj || !packed1 || !packed2;
    if (!failed) {
        transpose_taps(conv_weight, taps, D, Dp);
        memcpy(taps + 9 * Dp, conv_bias, D * sizeof(float));
    }
    Block f = {stream, gamma, beta, padded_proj, padded1, taps, padded2, attention,
               packed_proj, packed1, packed2, out, eps, H, W, C, Cp, Dp, (C + 31) / 32, Dp / 32,
               rows};
    int64_t blocks = (H + rows - 1) / rows, tasks = B * blocks;
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < active; k++) {
        Buffers buffers;
        int64_t start = tasks * k / threads, end = tasks * (k + 1) / threads;
        if (!new_buffers(&buffers, &f)) {
            failed = 1;
            continue;
        }
        begin_tiles();
        for (int64_t i = start; i < end; i++) {
            int64_t b = i / blocks, y = i % blocks * rows, y_end = MIN(y + rows, H);
            if (i == start || y == 0) expand_rows(&buffers, &f, b, y - 1, y + 1);
            expand_rows(&buffers, &f, b, y + 1, y_end + 1);
            contract_rows(&buffers, &f, b, y, y_end);
        }
        end_tiles();
        free(buffers.memory);
    }
    free(taps), free(padded_proj), free(padded1), free(padded2);
    free(packed_proj), free(packed1), free(packed2);
    return failed;
}
#endif

int has_tiles(void) { return may_use_tiles(); }
