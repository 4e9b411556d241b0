/* Helpers shared by the CPU kernels of HRFormer's fused operators.
 *
 * Plain C with GCC's vector extensions, and OpenMP for threads. `build.py` compiles the kernels for
 * the user's processor, `__init__.py` calls them. `../fused_ops/` has each one's plain form.
 *
 * All arrays are contiguous and channels last. Maps, the arrays with a value per token, hold `elem`:
 * float, or bfloat16 in the library that is compiled with -DBFLOAT16. All others, the residual
 * stream, all arithmetic and all statistics are float32 or wider.
 * B batch, H and W of a map, C channels, T = B * H * W tokens, h heads, d = C / h head width,
 * N tokens per window, V numbers per vector.
 * Kernels return 0, or 1 if an allocation failed.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX__
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
#define MAX(a, b) ((a) > (b) ? (a) : (b))
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

typedef int32_t ivec __attribute__((vector_size(4 * V)));

#if V == 16 && defined(__AVX512F__)
#define VEC_MIN(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define VEC_MAX(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define MASK(n) ((1u << (n)) - 1)
#elif V == 8 && defined(__AVX__)
#define VEC_MIN(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define VEC_MAX(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#else
#define VEC_MIN(a, b) blend((a) < (b), a, b)
#define VEC_MAX(a, b) blend((a) > (b), a, b)
#endif

/* mask ? a : b. */
INLINE vec blend(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

/* x < 0 ? a : b. */
INLINE vec where_negative(vec x, vec a, vec b) {
#if V == 16 && defined(__AVX512F__)
    __mmask16 mask = _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return (vec)_mm512_mask_blend_ps(mask, (__m512)b, (__m512)a);
#else
    return blend(x < (vec){0}, a, b);
#endif
}

/* The first n lanes of x, and 0. */
INLINE vec first_lanes(vec x, int64_t n) {
    ivec lane;
    for (int i = 0; i < V; i++) lane[i] = i;
    return (vec)((ivec)x & (lane < (int32_t)n));
}

#if V == 16
#define FOLD(x, op)                                                                             \
    x = op(x, __builtin_shuffle(x, (ivec){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7})); \
    x = op(x, __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11})); \
    x = op(x, __builtin_shuffle(x, (ivec){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13})); \
    x = op(x, __builtin_shuffle(x, (ivec){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));
#elif V == 8
#define FOLD(x, op)                                                     \
    x = op(x, __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3})); \
    x = op(x, __builtin_shuffle(x, (ivec){2, 3, 0, 1, 6, 7, 4, 5})); \
    x = op(x, __builtin_shuffle(x, (ivec){1, 0, 3, 2, 5, 4, 7, 6}));
#else
#define FOLD(x, op)                                         \
    x = op(x, __builtin_shuffle(x, (ivec){2, 3, 0, 1})); \
    x = op(x, __builtin_shuffle(x, (ivec){1, 0, 3, 2}));
#endif
#define VEC_ADD(a, b) ((a) + (b))

INLINE float sum_lanes(vec x) {
    FOLD(x, VEC_ADD)
    return x[0];
}

INLINE float max_lanes(vec x) {
    FOLD(x, VEC_MAX)
    return x[0];
}

/* Load and store n floats, at most V; lanes beyond them are 0. */
INLINE vec load_floats(const float *p, int64_t n) {
    if (n >= V) return LOAD(p);
#if V == 16 && defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps(MASK(n), p);
#else
    vec x = {0};
    for (int64_t i = 0; i < n; i++) x[i] = p[i];
    return x;
#endif
}

INLINE void store_floats(float *p, vec x, int64_t n) {
    if (n >= V) {
        STORE(p, x);
        return;
    }
#if V == 16 && defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, MASK(n), (__m512)x);
#else
    for (int64_t i = 0; i < n; i++) p[i] = x[i];
#endif
}

#ifdef BFLOAT16
typedef uint16_t elem; /* the upper half of a float */
typedef uint16_t elems __attribute__((vector_size(2 * V), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * V)));

INLINE vec widen(elems x) { return (vec)(__builtin_convertvector(x, bits) << 16); }

/* Round to the nearest, ties to even. NaN stays NaN. */
INLINE elems narrow(vec x) {
#if V == 16 && defined(__AVX512BF16__)
    return (elems)_mm512_cvtneps_pbh((__m512)x);
#else
    bits word = (bits)x, is_nan = (bits)(x != x);
    word = ((word + 0x7fff + (word >> 16 & 1)) & ~is_nan) | (0x7fc00000 & is_nan);
    return __builtin_convertvector(word >> 16, elems);
#endif
}

/* Load and store n numbers of a map, at most V; lanes beyond them are 0. */
INLINE vec load_elems(const elem *p, int64_t n) {
    if (n >= V) return widen(*(const elems *)p);
#if V == 16 && defined(__AVX512BW__) && defined(__AVX512VL__)
    return widen((elems)_mm256_maskz_loadu_epi16(MASK(n), p));
#else
    elems x = {0};
    for (int64_t i = 0; i < n; i++) x[i] = p[i];
    return widen(x);
#endif
}

INLINE void store_elems(elem *p, vec x, int64_t n) {
    elems rounded = narrow(x);
    if (n >= V) {
        *(elems *)p = rounded;
        return;
    }
#if V == 16 && defined(__AVX512BW__) && defined(__AVX512VL__)
    _mm256_mask_storeu_epi16(p, MASK(n), (__m256i)rounded);
#else
    for (int64_t i = 0; i < n; i++) p[i] = rounded[i];
#endif
}
#else
typedef float elem;

INLINE vec load_elems(const elem *p, int64_t n) { return load_floats(p, n); }
INLINE void store_elems(elem *p, vec x, int64_t n) { store_floats(p, x, n); }
#endif

/* Run the statements for c = 0, V, 2 V, ... below C; n is V, and less at the end. They are compiled
 * twice: only the last vector is a partial one. */
#define FOR_VECTORS(C, ...)              \
    do {                                 \
        int64_t c = 0;                   \
        for (; c + V <= (C); c += V) {   \
            const int64_t n = V;         \
            (void)n;                     \
            __VA_ARGS__                  \
        }                                \
        if (c < (C)) {                   \
            const int64_t n = (C) - c;   \
            (void)n;                     \
            __VA_ARGS__                  \
        }                                \
    } while (0)

/* 2^x for x <= 127, by a polynomial on [-1/2, 1/2]: relative error 2e-7, or 1e-4 for bfloat16. It is
 * 0 for x <= -127, masked logits: subnormal numbers would slow down what is computed of them. */
INLINE vec fast_exp2(vec x) {
#if V == 16 && defined(__AVX512DQ__)
    __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, (__m512)SPLAT(-127.0f), _CMP_NLE_UQ);
    vec f = (vec)_mm512_reduce_ps((__m512)x, 0); /* x minus the nearest integer */
#else
    /* 1.5 * 2^23: adding it rounds x to an integer, which the low bits hold. */
    const vec magic = SPLAT(12582912.0f);
    x = VEC_MAX(SPLAT(-127.0f), x);
    vec rounded = x + magic, f = x - (rounded - magic);
#endif
#ifdef BFLOAT16
    vec p = SPLAT(5.50091019e-2f);
    p = p * f + 2.42210980e-1f;
    p = p * f + 6.93282888e-1f;
#else
    vec p = SPLAT(1.5403530e-4f);
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
#endif
    p = p * f + 1.0f;
#if V == 16 && defined(__AVX512DQ__)
    return (vec)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)(x - f));
#else
    return (vec)((ivec)p + ((ivec)rounded << 23)); /* exponent 0, which is 0, for -127 */
#endif
}

INLINE vec fast_exp(vec x) { return fast_exp2(x * 1.44269504088896341f); }

/* x scale + offset for n channels; scale is NULL for x. */
INLINE vec scaled(const elem *x, const float *scale, const float *offset, int64_t n) {
    vec y = load_elems(x, n);
    if (scale) y = y * load_floats(scale, n) + load_floats(offset, n);
    return y;
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
