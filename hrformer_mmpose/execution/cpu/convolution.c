/* The depth-wise convolution, 3x3, padded by one, with the GELU before it. See common.h.
 *
 * A thread walks down its rows and keeps three of them in a ring, with a column of zeros at either
 * side and channels filled up to whole vectors.
 */

#include "common.h"

typedef struct {
    float *rows[3]; /* of y - 1, y, y + 1, each (W + 2, Cp) */
    int64_t width;  /* (W + 2) Cp */
} Ring;

static int new_ring(Ring *ring, int64_t W, int64_t Cp) {
    ring->width = (W + 2) * Cp;
    float *space = zeros(3 * ring->width);
    for (int i = 0; i < 3; i++) ring->rows[i] = space + i * ring->width;
    return space != NULL;
}

static float *turn(Ring *ring) {
    float *oldest = ring->rows[0];
    ring->rows[0] = ring->rows[1];
    ring->rows[1] = ring->rows[2];
    return ring->rows[2] = oldest;
}

INLINE void store_part(float *p, vec x, int64_t n) {
    if (n >= V)
        STORE(p, x);
    else
        memcpy(p, &x, n * sizeof(float));
}

/* One row of the convolution for one vector of channels. in: three rows at that vector. */
INLINE void conv_row(const float *const in[3], const float *kernel, vec shift, float *out, int64_t W,
                     int64_t C, int64_t Cp, int64_t n) {
    vec k[9];
    for (int i = 0; i < 9; i++) k[i] = LOAD(kernel + i * Cp);
    for (int64_t x = 0; x < W; x++) {
        vec total = shift;
        for (int i = 0; i < 9; i++) total += k[i] * LOAD(in[i / 3] + (x + i % 3) * Cp);
        store_part(out + x * C, total, n);
    }
}

/* A row of gelu(x scale + offset), or zeros outside the map. */
static void gelu_row(const float *x, const float *scale, const float *offset, float *row, int64_t y,
                     int64_t H, int64_t W, int64_t C, int64_t Cp) {
    if (y < 0 || y >= H) {
        memset(row, 0, (W + 2) * Cp * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < W; i++) {
        const float *from = x + (y * W + i) * C;
        float *to = row + (i + 1) * Cp;
        if (scale)
            gelu_of(from, scale, offset, NULL, to, C);
        else
            gelu_of(from, NULL, NULL, NULL, to, C);
    }
}

/* out = conv(gelu(x scale + offset)) + shift, and its moments (2, C); without statistics gelu(out).
 * x, out: (B, H, W, C). scale, offset: (C), or NULL for 1 and 0. shift: (C). kernel: (9, C), taps row
 * by row. */
int gelu_conv(const float *x, const float *scale, const float *offset, const float *kernel,
              const float *shift, float *out, float *statistics, int64_t B, int64_t H, int64_t W,
              int64_t C, int threads) {
    int64_t Cp = ROUND_UP(C), rows = B * H;
    float *taps = zeros(10 * Cp), *space = floats((size_t)threads * 3 * C);
    Moments *parts = new_moments(threads, C);
    int failed = !taps || !space || !parts;
    for (int i = 0; !failed && i < 9; i++) memcpy(taps + i * Cp, kernel + i * C, C * sizeof(float));
    if (!failed) memcpy(taps + 9 * Cp, shift, C * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < threads; k++) {
        Ring ring;
        if (failed || !new_ring(&ring, W, Cp)) {
            failed = 1;
            continue;
        }
        float *memory = ring.rows[0], *work = space + (size_t)k * 3 * C;
        int64_t start = rows * k / threads, end = rows * (k + 1) / threads;
        for (int64_t r = start; r < end; r++) {
            int64_t b = r / H, y = r % H;
            const float *map = x + b * H * W * C;
            if (r == start || y == 0) {
                gelu_row(map, scale, offset, turn(&ring), y - 1, H, W, C, Cp);
                gelu_row(map, scale, offset, turn(&ring), y, H, W, C, Cp);
            }
            gelu_row(map, scale, offset, turn(&ring), y + 1, H, W, C, Cp);
            float *to = out + r * W * C;
            for (int64_t c = 0; c < C; c += V) {
                const float *in[3] = {ring.rows[0] + c, ring.rows[1] + c, ring.rows[2] + c};
                vec add = LOAD(taps + 9 * Cp + c);
                if (c + V <= C)
                    conv_row(in, taps + c, add, to + c, W, C, Cp, V);
                else
                    conv_row(in, taps + c, add, to + c, W, C, Cp, C - c);
            }
            if (statistics)
                take_in(parts + k, to, W, C, work);
            else
                gelu_of(to, NULL, NULL, NULL, to, W * C);
        }
        free(memory);
    }
    if (!failed && statistics) join_moments(parts, threads, C, B * H * W, statistics);
    if (parts) free_moments(parts);
    free(taps), free(space);
    return failed;
}

/* A row of a slope + b z + c, the gradient of BatchNorm, or zeros outside the map. */
static void norm_row(const float *slope, const float *z, const float *abc, float *row, int64_t y,
                     int64_t H, int64_t W, int64_t C, int64_t Cp) {
    if (y < 0 || y >= H) {
        memset(row, 0, (W + 2) * Cp * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < W; i++) {
        const float *s = slope + (y * W + i) * C, *from = z + (y * W + i) * C;
        float *to = row + (i + 1) * Cp;
#pragma omp simd
        for (int64_t c = 0; c < C; c++) to[c] = abc[c] * s[c] + abc[C + c] * from[c] + abc[2 * C + c];
    }
}

INLINE vec load_part(const float *p, int64_t n) {
    vec x = {0};
    if (n >= V) return LOAD(p);
    memcpy(&x, p, n * sizeof(float));
    return x;
}

/* One row backwards for one vector of channels: the slope of the row's input x, and what is added
 * to the sums (11, Cp). grad: three rows at that vector; act, act_slope: gelu and gelu', (W, Cp). */
INLINE void conv_row_backward(const float *const grad[3], const float *kernel, const float *act,
                              const float *act_slope, const float *in, float *out, float *sums,
                              int64_t W, int64_t C, int64_t Cp, int64_t n) {
    vec total_kernel[9], total = {0}, total_x = {0};
    for (int i = 0; i < 9; i++) total_kernel[i] = (vec){0};
    for (int64_t x = 0; x < W; x++) {
        vec a = LOAD(act + x * Cp), back = {0};
        for (int i = 0; i < 9; i++) {
            /* Tap (i / 3, i % 3) led from this pixel to the one opposite. */
            vec g = LOAD(grad[2 - i / 3] + (x + 2 - i % 3) * Cp);
            total_kernel[i] += a * g;
            back += LOAD(kernel + i * Cp) * g;
        }
        back *= LOAD(act_slope + x * Cp);
        total += back;
        total_x += back * load_part(in + x * C, n);
        store_part(out + x * C, back, n);
    }
    for (int i = 0; i < 9; i++) STORE(sums + i * Cp, total_kernel[i]);
    STORE(sums + 9 * Cp, total);
    STORE(sums + 10 * Cp, total_x);
}

/* Backward of BatchNorm(conv(gelu(x scale + offset))), given the slope of what BatchNorm gave.
 * x, z, slope, out: (B, H, W, C); z = conv(...) + shift, whose gradient is a slope + b z + c with
 * abc (3, C). scale, offset: (C). kernel: (9, C). out: gradient of x scale + offset, none of the
 * others. sums: (11, C), the gradient of the kernel's nine taps, the sums over tokens of out and of
 * out x. */
int gelu_conv_backward(const float *x, const float *scale, const float *offset, const float *z,
                       const float *slope, const float *abc, const float *kernel, float *out,
                       double *sums, int64_t B, int64_t H, int64_t W, int64_t C, int threads) {
    int64_t Cp = ROUND_UP(C), rows = B * H;
    float *taps = zeros(9 * Cp);
    double *parts = calloc((size_t)threads * 11 * C, sizeof(double));
    int failed = !taps || !parts;
    for (int i = 0; !failed && i < 9; i++) memcpy(taps + i * Cp, kernel + i * C, C * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int k = 0; k < threads; k++) {
        Ring ring = {{NULL}, 0};
        float *act = zeros(2 * W * Cp + 11 * Cp);
        if (failed || !act || !new_ring(&ring, W, Cp)) {
            free(act);
            failed = 1;
            continue;
        }
        float *memory = ring.rows[0], *act_slope = act + W * Cp, *total = act + 2 * W * Cp;
        double *part = parts + (size_t)k * 11 * C;
        int64_t start = rows * k / threads, end = rows * (k + 1) / threads;
        for (int64_t r = start; r < end; r++) {
            int64_t b = r / H, y = r % H, map = b * H * W * C;
            if (r == start || y == 0) {
                norm_row(slope + map, z + map, abc, turn(&ring), y - 1, H, W, C, Cp);
                norm_row(slope + map, z + map, abc, turn(&ring), y, H, W, C, Cp);
            }
            norm_row(slope + map, z + map, abc, turn(&ring), y + 1, H, W, C, Cp);
            const float *in = x + r * W * C;
            for (int64_t i = 0; i < W; i++) {
                const float *from = in + i * C;
                float *a = act + i * Cp, *s = act_slope + i * Cp;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) {
                    float integral, density, y1 = from[c] * scale[c] + offset[c];
                    normal(y1, &integral, &density);
                    a[c] = y1 * integral;
                    s[c] = integral + y1 * density;
                }
            }
            float *to = out + r * W * C;
            for (int64_t c = 0; c < C; c += V) {
                const float *grad[3] = {ring.rows[0] + c, ring.rows[1] + c, ring.rows[2] + c};
                if (c + V <= C)
                    conv_row_backward(grad, taps + c, act + c, act_slope + c, in + c, to + c,
                                      total + c, W, C, Cp, V);
                else
                    conv_row_backward(grad, taps + c, act + c, act_slope + c, in + c, to + c,
                                      total + c, W, C, Cp, C - c);
            }
            for (int64_t i = 0; i < 11; i++)
                for (int64_t c = 0; c < C; c++) part[i * C + c] += total[i * Cp + c];
        }
        free(act), free(memory);
    }
    if (!failed) add_up(parts, sums, 11 * C, threads);
    free(taps), free(parts);
    return failed;
}

