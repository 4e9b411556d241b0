/* Helpers shared by the CPU kernels of HRFormer's fused operators.
 *
 * Plain C with GCC's vector extensions, and OpenMP for threads. `build.py` compiles the kernels for
 * the user's processor, `__init__.py` calls them. `../fused_ops/` has each one's plain form.
 *
 * All arrays are contiguous and channels last. Maps, the arrays with a value per token, hold `elem`:
 * float, or bfloat16 in the library that is compiled with -DBFLOAT16. All others, all arithmetic and
 * all statistics are float32 or wider.
 * B batch, H and W of a map, C channels, T = B * H * W tokens, h heads, d = C / h head width,
 * N tokens per window, V numbers per vector.
 * Kernels return 0, or 1 if an allocation failed.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

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

#ifdef BFLOAT16
typedef uint16_t elem; /* the upper half of a float */
typedef uint16_t elems __attribute__((vector_size(2 * V), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * V)));

INLINE float widen(elem x) {
    uint32_t word = (uint32_t)x << 16;
    float y;
    memcpy(&y, &word, 4);
    return y;
}

INLINE vec load_vec(const elem *p) {
    return (vec)(__builtin_convertvector(*(const elems *)p, bits) << 16);
}

/* Round to the nearest, ties to even. NaN stays NaN. */
INLINE void store_vec(elem *p, vec x) {
#if defined(__AVX512BF16__) && V == 16
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    bits word = (bits)x, is_nan = (bits)(x != x);
    word = ((word + 0x7fff + (word >> 16 & 1)) & ~is_nan) | (0x7fc00000 & is_nan);
    *(elems *)p = __builtin_convertvector(word >> 16, elems);
#endif
}

INLINE void store_elems(elem *to, const float *from, int64_t n) {
    int64_t i = 0;
    for (; i + V <= n; i += V) store_vec(to + i, LOAD(from + i));
    if (i == n) return;
    float rest[V] = {0};
    elem rounded[V];
    memcpy(rest, from + i, (n - i) * sizeof(float));
    store_vec(rounded, LOAD(rest));
    memcpy(to + i, rounded, (n - i) * sizeof(elem));
}

/* A row is computed in pieces of at most PIECE floats: in `buffer`, from where `store_elems` rounds
 * them, or in the row itself if it holds floats. */
enum { PIECE = 512 };
#define BUFFER(name) float name[PIECE]
#define FLOATS_OF(row, buffer) (buffer)
#else
typedef float elem;

INLINE float widen(elem x) { return x; }
INLINE vec load_vec(const elem *p) { return LOAD(p); }
INLINE void store_vec(elem *p, vec x) { STORE(p, x); }
INLINE void store_elems(elem *to, const float *from, int64_t n) { (void)to, (void)from, (void)n; }

enum { PIECE = INT32_MAX };
#define BUFFER(name) float *name = NULL
#define FLOATS_OF(row, buffer) ((void)(buffer), (row))
#endif

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

#ifdef BFLOAT16
/* Polynomials in x^2, fitted for |x| <= 4.5: an error of 5e-5 is a fraction of bfloat16's rounding.
 * They need neither exponential nor division. The constants make gelu 0 below -4.5. */
#define GELU_END 4.5f

INLINE float gelu_clamp(float x) {
    x = x > GELU_END ? GELU_END : x;
    return x < -GELU_END ? -GELU_END : x;
}

INLINE float gelu_cdf(float x) { /* x between -GELU_END and GELU_END */
    float u = x * x, p = -6.10083923e-13f;
    p = p * u + 9.17100701e-11f;
    p = p * u - 5.93105787e-09f;
    p = p * u + 2.20708316e-07f;
    p = p * u - 5.3248973e-06f;
    p = p * u + 8.90381489e-05f;
    p = p * u - 1.07760471e-03f;
    p = p * u + 9.703869e-03f;
    p = p * u - 6.61565736e-02f;
    p = p * u + 3.98797929e-01f;
    float cdf = p * x + 0.5f;
    return cdf < 0.0f ? 0.0f : cdf;
}

INLINE float gelu(float x) { return x * gelu_cdf(gelu_clamp(x)); }

INLINE void gelu_and_slope(float x, float *act, float *slope) {
    float y = gelu_clamp(x), u = y * y, p = -2.42486569e-11f;
    *act = x * gelu_cdf(y);
    p = p * u + 2.73407719e-09f;
    p = p * u - 1.35763813e-07f;
    p = p * u + 3.92989386e-06f;
    p = p * u - 7.41225158e-05f;
    p = p * u + 9.65374988e-04f;
    p = p * u - 8.94365367e-03f;
    p = p * u + 5.89788593e-02f;
    p = p * u - 2.65444309e-01f;
    p = p * u + 7.97872245e-01f;
    *slope = p * y + 0.5f;
}
#else
INLINE float gelu(float x) {
    float cdf, pdf;
    normal_cdf_pdf(x, &cdf, &pdf);
    return x * cdf;
}

INLINE void gelu_and_slope(float x, float *act, float *slope) {
    float cdf, pdf;
    normal_cdf_pdf(x, &cdf, &pdf);
    *act = x * cdf;
    *slope = cdf + x * pdf;
}
#endif

/* to = gelu(x scale + offset) + residual for n channels. NULL: scale 1 and offset 0; residual 0. */
INLINE void bn_gelu_floats(const elem *x, const float *scale, const float *offset,
                           const elem *residual, float *to, int64_t n) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) {
        float y = widen(x[c]);
        to[c] = gelu(scale ? y * scale[c] + offset[c] : y) + (residual ? widen(residual[c]) : 0.0f);
    }
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
void update_moments(Moments *m, const elem *x, int64_t rows, int64_t C, float *work);
void merge_moments(Moments *partials, int threads, int64_t C, int64_t T, float *out);
void free_moments(Moments *partials);
