/* Helpers shared by the CPU kernels of HRFormer's fused operators.
 *
 * Plain C with GCC's vector extensions, and OpenMP for threads. `build.py` compiles the kernels for
 * the user's processor, `__init__.py` calls them. `../fused_ops/` has each one's plain form.
 *
 * All arrays are float32, contiguous and channels last.
 * B batch, H and W of a map, C channels, T = B * H * W tokens, h heads, d = C / h head width,
 * N tokens per window, V numbers per vector.
 * Kernels return 0, or 1 if an allocation failed.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(V) /* set by the tests */
#elif defined(__AVX512F__)
#define V 16
#elif defined(__AVX__)
#define V 8
#else
#define V 4
#endif
#if V == 16
#define SPLAT(x) ((vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x})
#elif V == 8
#define SPLAT(x) ((vec){x, x, x, x, x, x, x, x})
#else
#define SPLAT(x) ((vec){x, x, x, x})
#endif

/* Aligned like a float, so that loads and stores may be unaligned. */
typedef float vec __attribute__((vector_size(4 * V), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define ROUND_UP(n) (((n) + V - 1) / V * V)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define LOAD(p) (*(const vec *)(p))
#define STORE(p, x) (*(vec *)(p) = (x))
/* Promise the compiler that n is a multiple of V: it then emits no remainder loop. */
#define ASSUME_WHOLE_VECTORS(n) \
    if ((n) % V) __builtin_unreachable()

static inline float *alloc_floats(size_t n) {
    return aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
}

static inline float *alloc_zeros(size_t n) {
    float *p = alloc_floats(n);
    return p ? memset(p, 0, n * sizeof(float)) : p;
}

/* 2^x for x <= 127, clamped at 2^-126. Taylor polynomial of degree 6 on [-1/2, 1/2]: relative error
 * 2e-7. */
INLINE float fast_exp2(float x) {
    /* 1.5 * 2^23: adding it rounds x to an integer, which the low bits hold. */
    const float magic = 12582912.0f;
    x = x < -126.0f ? -126.0f : x;
    float rounded = x + magic, f = x - (rounded - magic);
    float p = 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    int32_t bits, n;
    memcpy(&bits, &p, 4), memcpy(&n, &rounded, 4);
    bits += (uint32_t)n << 23;
    memcpy(&p, &bits, 4);
    return p;
}

INLINE float fast_exp(float x) { return fast_exp2(x * 1.44269504088896341f); }

/* CDF and PDF of the normal distribution at x. The CDF follows Abramowitz and Stegun 7.1.26, whose
 * error is at most 7.5e-8; both share one exponential. */
INLINE void normal_cdf_pdf(float x, float *cdf, float *pdf) {
    float t = 1.0f / (1.0f + 0.23164190f * fabsf(x)); /* 0.3275911 / sqrt(2) */
    float e = fast_exp2(x * x * -0.72134752044448170f);
    float p = 0.5307027145f; /* this and the next four: half of the source's coefficients */
    p = p * t - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    float tail = p * t * e;
    *cdf = x < 0.0f ? tail : 1.0f - tail;
    *pdf = 0.3989422804014327f * e;
}

INLINE float gelu(float x) {
    float cdf, pdf;
    normal_cdf_pdf(x, &cdf, &pdf);
    return x * cdf;
}

/* One row: to = gelu(x scale + offset) + residual. NULL: scale 1 and offset 0; residual 0. */
INLINE void bn_gelu_row(const float *x, const float *scale, const float *offset,
                        const float *residual, float *to, int64_t C) {
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        to[c] = gelu(scale ? x[c] * scale[c] + offset[c] : x[c]) + (residual ? residual[c] : 0.0f);
}

/* Sum the partial results of all threads, (threads, n), into out (n). */
static inline void reduce_threads(const double *partials, double *out, int64_t n, int threads) {
    memset(out, 0, n * sizeof(double));
    for (int k = 0; k < threads; k++)
        for (int64_t i = 0; i < n; i++) out[i] += partials[k * n + i];
}

/* Mean and sum of squared deviations (M2) of `n` numbers per channel, (C) each. See norms.c. */
typedef struct {
    double n, *mean, *m2;
} Moments;

Moments *new_moments(int threads, int64_t C);
void update_moments(Moments *m, const float *x, int64_t rows, int64_t C, float *work);
void merge_moments(Moments *partials, int threads, int64_t C, int64_t T, float *out);
void free_moments(Moments *partials);
