/* Depth-wise 3x3 convolution with padding 1, and the GELU before it. See common.h.
 *
 * Each thread processes consecutive rows and holds three of them in a ring buffer. Its rows have a
 * column of zeros at either side, and channels padded to Cp, a multiple of V.
 */

#include "rows.h"

typedef struct {
    float *rows[3]; /* rows y - 1, y, y + 1, each (W + 2, Cp) */
    int64_t width;  /* (W + 2) Cp */
} Ring;

static int new_ring(Ring *ring, int64_t W, int64_t Cp) {
    ring->width = (W + 2) * Cp;
    float *space = alloc_zeros(3 * ring->width);
    for (int i = 0; i < 3; i++) ring->rows[i] = space + i * ring->width;
    return space != NULL;
}

/* Move down by a row; return the memory of the new one. */
static float *advance(Ring *ring) {
    float *oldest = ring->rows[0];
    ring->rows[0] = ring->rows[1];
    ring->rows[1] = ring->rows[2];
    return ring->rows[2] = oldest;
}

/* row (W + 2, Cp) = gelu(x scale + offset) of row y; zeros outside the map. */
static void padded_gelu_row(const elem *x, const float *scale, const float *offset, float *row,
                            int64_t y, int64_t H, int64_t W, int64_t C, int64_t Cp) {
    if (y < 0 || y >= H) {
        memset(row, 0, (W + 2) * Cp * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < W; i++) {
        const elem *from = x + (y * W + i) * C;
        float *to = row + (i + 1) * Cp;
        if (scale)
            FOR_VECTORS(C, STORE(to + c, gelu(scaled(from + c, scale + c, offset + c, n))););
        else
            FOR_VECTORS(C, STORE(to + c, gelu(scaled(from + c, NULL, NULL, n))););
    }
}

/* out = conv(gelu(x scale + offset)) and its moments; without moments out = gelu(conv(gelu(...))).
 * x, out: (B, H, W, C).
 * scale, offset: (C), or NULL for 1 and 0.
 * conv_weight: (C, 9), taps in row-major order.
 * conv_bias: (C).
 * moments: (2, C) or NULL. */
int gelu_dwconv(const elem *x, const float *scale, const float *offset, const float *conv_weight,
                const float *conv_bias, elem *out, float *moments, int64_t B, int64_t H, int64_t W,
                int64_t C, int threads) {
    int64_t Cp = ROUND_UP(C), rows = B * H;
    size_t per_thread = 3 * C + (moments ? W * Cp : 0); /* a row, and room to read whole vectors */
    float *taps = alloc_zeros(10 * Cp), *space = alloc_floats(threads * (per_thread + V));
    Moments *partials = new_moments(threads, C);
    int failed = !taps || !space || !partials;
    if (!failed) transpose_taps(conv_weight, taps, C, Cp);
    if (!failed) memcpy(taps + 9 * Cp, conv_bias, C * sizeof(float));
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < active; k++) {
        Ring ring;
        if (!new_ring(&ring, W, Cp)) {
            failed = 1;
            continue;
        }
        float *memory = ring.rows[0], *work = space + k * per_thread;
        int64_t start = rows * k / threads, end = rows * (k + 1) / threads;
        for (int64_t r = start; r < end; r++) {
            int64_t b = r / H, y = r % H;
            const elem *map = x + b * H * W * C;
            if (r == start || y == 0) {
                padded_gelu_row(map, scale, offset, advance(&ring), y - 1, H, W, C, Cp);
                padded_gelu_row(map, scale, offset, advance(&ring), y, H, W, C, Cp);
            }
            padded_gelu_row(map, scale, offset, advance(&ring), y + 1, H, W, C, Cp);
            elem *to = out + r * W * C;
            if (!moments) {
                for (int64_t c = 0; c < C; c += V) {
                    const float *in[3] = {ring.rows[0] + c, ring.rows[1] + c, ring.rows[2] + c};
                    vec add = LOAD(taps + 9 * Cp + c);
                    if (c + V > C)
                        conv_row(in, taps + c, add, 1, to + c, W, C, Cp, C - c);
                    else
                        conv_row(in, taps + c, add, 1, to + c, W, C, Cp, V);
                }
                continue;
            }
            /* The moments are those of the numbers before they are rounded. */
            float *line = sizeof(elem) == sizeof(float) ? (void *)to : work + 3 * C;
            for (int64_t c = 0; c < C; c += V) {
                const float *in[3] = {ring.rows[0] + c, ring.rows[1] + c, ring.rows[2] + c};
                vec add = LOAD(taps + 9 * Cp + c);
                if (c + V > C)
                    conv_row(in, taps + c, add, 0, line + c, W, C, Cp, C - c);
                else
                    conv_row(in, taps + c, add, 0, line + c, W, C, Cp, V);
            }
            update_moments(partials + k, line, W, C, work);
            if (line != (void *)to) FOR_VECTORS(W * C, store_elems(to + c, LOAD(line + c), n););
        }
        free(memory);
    }
    if (!failed && moments) merge_moments(partials, threads, C, B * H * W, moments);
    if (partials) free_moments(partials);
    free(taps), free(space);
    return failed;
}

/* row (W + 2, Cp) = backward of BatchNorm for row y; zeros outside the map. */
static void bn_backward_row(const elem *grad_pre_act, const elem *conv_out,
                            const float *bn_grad_coeffs, float *row, int64_t y, int64_t H,
                            int64_t W, int64_t C, int64_t Cp) {
    if (y < 0 || y >= H) {
        memset(row, 0, (W + 2) * Cp * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < W; i++) {
        const elem *s = grad_pre_act + (y * W + i) * C, *from = conv_out + (y * W + i) * C;
        float *to = row + (i + 1) * Cp;
        FOR_VECTORS(C, {
            vec y = load_floats(bn_grad_coeffs + c, n) * load_elems(s + c, n);
            y += load_floats(bn_grad_coeffs + C + c, n) * load_elems(from + c, n);
            STORE(to + c, y + load_floats(bn_grad_coeffs + 2 * C + c, n));
        });
    }
}

/* Backward of one row for n channels, at most V.
 * grad: three rows of the convolution's gradient at these channels.
 * act, act_grad: (W, Cp), gelu and gelu' of the row's scaled input.
 * in, out: the row's input x and the gradient of x scale + offset.
 * sums: (11, Cp), see `gelu_dwconv_backward`. */
INLINE void conv_row_backward(const float *const grad[3], const float *conv_weight,
                              const float *act, const float *act_grad, const elem *in, elem *out,
                              float *sums, int64_t W, int64_t C, int64_t Cp, int64_t n) {
    vec total_weight[9], total = {0}, total_x = {0};
    for (int i = 0; i < 9; i++) total_weight[i] = (vec){0};
    for (int64_t x = 0; x < W; x++) {
        vec a = LOAD(act + x * Cp), back = {0};
        for (int i = 0; i < 9; i++) {
            /* The forward's tap (i / 3, i % 3) connects this pixel to the opposite one. */
            vec g = LOAD(grad[2 - i / 3] + (x + 2 - i % 3) * Cp);
            total_weight[i] += a * g;
            back += LOAD(conv_weight + i * Cp) * g;
        }
        back *= LOAD(act_grad + x * Cp);
        total += back;
        total_x += back * load_elems(in + x * C, n);
        store_elems(out + x * C, back, n);
    }
    for (int i = 0; i < 9; i++) STORE(sums + i * Cp, total_weight[i]);
    STORE(sums + 9 * Cp, total);
    STORE(sums + 10 * Cp, total_x);
}

/* Backward of BatchNorm(conv(gelu(x scale + offset))).
 * x, scale, offset, conv_weight: as in `gelu_dwconv`.
 * conv_out: (B, H, W, C), output of the convolution.
 * grad_pre_act: (B, H, W, C), gradient of BatchNorm's output.
 * bn_grad_coeffs: (3, C), a, b, c: the gradient of conv_out is a grad_pre_act + b conv_out + c.
 * out: (B, H, W, C), gradient of x scale + offset; overlaps no other array.
 * sums: (11, C), gradients of the nine taps, sums over tokens of out and out x. */
int gelu_dwconv_backward(const elem *x, const float *scale, const float *offset,
                         const elem *conv_out, const elem *grad_pre_act,
                         const float *bn_grad_coeffs, const float *conv_weight, elem *out,
                         double *sums, int64_t B, int64_t H, int64_t W, int64_t C, int threads) {
    int64_t Cp = ROUND_UP(C), rows = B * H;
    float *taps = alloc_zeros(9 * Cp);
    double *partials = calloc((size_t)threads * 11 * C, sizeof(double));
    int failed = !taps || !partials;
    if (!failed) transpose_taps(conv_weight, taps, C, Cp);
    const int active = failed ? 0 : threads; /* in the loop `failed` is the thread's own */
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < active; k++) {
        Ring ring = {{NULL}, 0};
        float *act = alloc_zeros(2 * W * Cp + 11 * Cp);
        if (!act || !new_ring(&ring, W, Cp)) {
            free(act);
            failed = 1;
            continue;
        }
        float *memory = ring.rows[0], *act_grad = act + W * Cp, *total = act + 2 * W * Cp;
        double *part = partials + (size_t)k * 11 * C;
        int64_t start = rows * k / threads, end = rows * (k + 1) / threads;
        for (int64_t r = start; r < end; r++) {
            int64_t b = r / H, y = r % H, map = b * H * W * C;
            if (r == start || y == 0) {
                bn_backward_row(grad_pre_act + map, conv_out + map, bn_grad_coeffs, advance(&ring),
                                y - 1, H, W, C, Cp);
                bn_backward_row(grad_pre_act + map, conv_out + map, bn_grad_coeffs, advance(&ring),
                                y, H, W, C, Cp);
            }
            bn_backward_row(grad_pre_act + map, conv_out + map, bn_grad_coeffs, advance(&ring),
                            y + 1, H, W, C, Cp);
            const elem *in = x + r * W * C;
            for (int64_t i = 0; i < W; i++) {
                const elem *from = in + i * C;
                float *a = act + i * Cp, *s = act_grad + i * Cp;
                FOR_VECTORS(C, {
                    vec y;
                    vec slope;
                    gelu_and_slope(scaled(from + c, scale + c, offset + c, n), &y, &slope);
                    STORE(a + c, y);
                    STORE(s + c, slope);
                });
            }
            elem *to = out + r * W * C;
            for (int64_t c = 0; c < C; c += V) {
                const float *grad[3] = {ring.rows[0] + c, ring.rows[1] + c, ring.rows[2] + c};
                if (c + V <= C)
                    conv_row_backward(grad, taps + c, act + c, act_grad + c, in + c, to + c,
                                      total + c, W, C, Cp, V);
                else
                    conv_row_backward(grad, taps + c, act + c, act_grad + c, in + c, to + c,
                                      total + c, W, C, Cp, C - c);
            }
            for (int64_t i = 0; i < 11; i++)
                for (int64_t c = 0; c < C; c++) part[i * C + c] += total[i * Cp + c];
        }
        free(act), free(memory);
    }
    if (!failed) reduce_threads(partials, sums, 11 * C, threads);
    free(taps), free(partials);
    return failed;
}
