/* Computations of a row that several kernels share. See common.h. */

#pragma once

#include "gelu.h"

/* out (C) = LayerNorm of a row x, of a map or of floats; mean and 1 / standard deviation. */
INLINE void layer_norm_row(const void *x, int is_map, const float *gamma, const float *beta,
                           elem *out, float eps, int64_t C, float *mean, float *rstd) {
#define VALUES (is_map ? load_elems((const elem *)x + c, n) : load_floats((const float *)x + c, n))
    vec sum = {0}, square = {0};
    FOR_VECTORS(C, sum += VALUES;);
    *mean = sum_lanes(sum) / C;
    FOR_VECTORS(C, {
        vec off = VALUES - *mean;
        if (n < V) off = first_lanes(off, n);
        square += off * off;
    });
    *rstd = 1 / sqrtf(sum_lanes(square) / C + eps);
    FOR_VECTORS(C, {
        vec y = (VALUES - *mean) * *rstd;
        store_elems(out + c, y * load_floats(gamma + c, n) + load_floats(beta + c, n), n);
    });
#undef VALUES
}

/* Convolve m adjacent pixels of a row for n channels, at most V. A column of the input serves up to
 * three of them. as_map: apply GELU and store elem; otherwise store floats. */
INLINE void conv_pixels(int m, const float *const in[3], const vec k[9], vec conv_bias, int as_map,
                        void *out, int64_t C, int64_t Cp, int64_t n) {
    vec total[4];
    for (int j = 0; j < m; j++) total[j] = conv_bias;
    for (int row = 0; row < 3; row++)
        for (int column = 0; column < m + 2; column++) {
            vec x = LOAD(in[row] + column * Cp);
            for (int j = 0; j < m; j++)
                if (column >= j && column <= j + 2) total[j] += k[3 * row + column - j] * x;
        }
    for (int j = 0; j < m; j++)
        if (as_map)
            store_elems((elem *)out + j * C, gelu(total[j]), n);
        else
            store_floats((float *)out + j * C, total[j], n);
}

/* Convolve a row for n channels, at most V. in: three rows at these channels. */
INLINE void conv_row(const float *const in[3], const float *conv_weight, vec conv_bias, int as_map,
                     void *out, int64_t W, int64_t C, int64_t Cp, int64_t n) {
    vec k[9];
    for (int i = 0; i < 9; i++) k[i] = LOAD(conv_weight + i * Cp);
    size_t pixel = C * (as_map ? sizeof(elem) : sizeof(float));
    int64_t x = 0;
    for (; x + 4 <= W; x += 4) {
        const float *from[3] = {in[0] + x * Cp, in[1] + x * Cp, in[2] + x * Cp};
        conv_pixels(4, from, k, conv_bias, as_map, (char *)out + x * pixel, C, Cp, n);
    }
    for (; x < W; x++) {
        const float *from[3] = {in[0] + x * Cp, in[1] + x * Cp, in[2] + x * Cp};
        conv_pixels(1, from, k, conv_bias, as_map, (char *)out + x * pixel, C, Cp, n);
    }
}

/* taps (9, Cp) = transposed conv_weight (C, 9). */
static inline void transpose_taps(const float *conv_weight, float *taps, int64_t C, int64_t Cp) {
    for (int64_t c = 0; c < C; c++)
        for (int i = 0; i < 9; i++) taps[i * Cp + c] = conv_weight[9 * c + i];
}
