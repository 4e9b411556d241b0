/* What HRFormer's transformer block does between its matrix products, on CPUs, in one pass each.
 *
 * Plain C with GCC's vector extensions, OpenMP for threads; built on the user's machine for its
 * processor by `build.py`, called by `__init__.py`. The plain PyTorch twin of every function stands
 * in `../passes.py`. Here is what norms.c, convolution.c and attention.c share.
 *
 * All arrays are float32, contiguous, channels last. B maps, H and W of a map, C channels, T = B*H*W
 * tokens, h heads, d = C / h head width, N tokens a window. `V` is the width of a vector. Functions
 * return 0, or 1 when memory ran out.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(V) /* by the tests */
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

/* Aligned like a float: loads and stores go anywhere. */
typedef float vec __attribute__((vector_size(4 * V), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define ROUND_UP(n) (((n) + V - 1) / V * V)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define LOAD(p) (*(const vec *)(p))
#define STORE(p, x) (*(vec *)(p) = (x))
/* Tells the compiler, which then makes no loop for a remainder. */
#define WHOLE_VECTORS(n) \
    if ((n) % V) __builtin_unreachable()

static inline float *floats(size_t n) { return aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64); }

static inline float *zeros(size_t n) {
    float *p = floats(n);
    return p ? memset(p, 0, n * sizeof(float)) : p;
}

/* 2^x for x <= 127; 2^-126 below. 2e-7: Taylor's polynomial on [-1/2, 1/2], of degree 6. */
INLINE float exp2_of(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds, and leaves n in the low bits */
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

INLINE float exp_of(float x) { return exp2_of(x * 1.44269504088896341f); }

/* The normal distribution at x: its integral from -inf, and its density. The integral follows
 * Abramowitz and Stegun 7.1.26, which is off by 7.5e-8 at most and shares the exponential. */
INLINE void normal(float x, float *integral, float *density) {
    float t = 1.0f / (1.0f + 0.23164190f * fabsf(x)); /* 0.3275911 / sqrt(2) */
    float e = exp2_of(x * x * -0.72134752044448170f);
    float p = 0.5307027145f; /* half of the source's, all five */
    p = p * t - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    float tail = p * t * e;
    *integral = x < 0.0f ? tail : 1.0f - tail;
    *density = 0.3989422804014327f * e;
}

INLINE float gelu(float x) {
    float integral, density;
    normal(x, &integral, &density);
    return x * integral;
}

/* A row: to = gelu(x scale + offset) + residual; without scale 1 and 0, without residual 0. */
INLINE void gelu_of(const float *x, const float *scale, const float *offset, const float *residual,
                    float *to, int64_t C) {
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        to[c] = gelu(scale ? x[c] * scale[c] + offset[c] : x[c]) + (residual ? residual[c] : 0.0f);
}

/* The sum of `threads` rows of n numbers. */
static inline void add_up(const double *parts, double *out, int64_t n, int threads) {
    memset(out, 0, n * sizeof(double));
    for (int k = 0; k < threads; k++)
        for (int64_t i = 0; i < n; i++) out[i] += parts[k * n + i];
}

/* Mean, and sum of squares about it, of `n` numbers a channel; (C) each. See norms.c. */
typedef struct {
    double n, *mean, *squares;
} Moments;

Moments *new_moments(int threads, int64_t C);
void take_in(Moments *m, const float *x, int64_t rows, int64_t C, float *work);
void join_moments(Moments *parts, int threads, int64_t C, int64_t T, float *out);
void free_moments(Moments *parts);
