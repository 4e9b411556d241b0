/* GELU and its derivative. See common.h. */

#pragma once

#include "common.h"

#if defined(BFLOAT16) && V == 16 && defined(__AVX512F__)
/* The normal distribution's CDF and gelu', each by 32 quadratics a + b x + c x^2. The one of
 * (a, b, c)[i] is for x next to i / 3.45 for i < 16, or to (i - 32) / 3.45. An instruction selects
 * 16 coefficients: 0.7 of the time of the polynomials below (`bn_gelu`, Xeon with AMX), and the same
 * error. */
static const float GELU_CDF[3][32] = {
    {0.5f, 0.498741f, 0.490898f, 0.480659f, 0.48243f, 0.511867f, 0.574534f, 0.661938f, 0.756714f,
     0.841791f, 0.907039f, 0.950606f, 0.97624f, 0.989634f, 0.995903f, 1, 0, 0, 0.00411114f,
     0.0103594f, 0.0237628f, 0.0493915f, 0.092957f, 0.158209f, 0.243286f, 0.33806f, 0.425462f,
     0.488129f, 0.51757f, 0.519341f, 0.509103f, 0.501259f},
    {0.397898f, 0.413993f, 0.450122f, 0.47909f, 0.476493f, 0.432032f, 0.353732f, 0.260961f,
     0.173602f, 0.104328f, 0.0567555f, 0.028001f, 0.0125479f, 0.00511743f, 0.00189685f, 0, 0, 0,
     0.0019037f, 0.00511388f, 0.0125495f, 0.0279995f, 0.056753f, 0.104328f, 0.173602f, 0.260959f,
     0.353728f, 0.432027f, 0.476493f, 0.47909f, 0.450125f, 0.413992f},
    {2.01338e-07f, -0.0558791f, -0.0978636f, -0.118402f, -0.117561f, -0.100759f, -0.0762847f,
     -0.0516554f, -0.0315179f, -0.0174123f, -0.00873909f, -0.00399371f, -0.00166446f, -0.00063381f,
     -0.000220124f, 0, 0, 0, 0.000220969f, 0.00063333f, 0.00166469f, 0.00399348f, 0.00873866f,
     0.0174124f, 0.0315179f, 0.0516549f, 0.0762836f, 0.100757f, 0.117561f, 0.118402f, 0.0978659f,
     0.0558778f},
};
static const float GELU_SLOPE[3][32] = {
    {0.5f, 0.495389f, 0.470702f, 0.459801f, 0.536094f, 0.741776f, 1.03673f, 1.31876f, 1.49259f,
     1.52475f, 1.44683f, 1.32039f, 1.19844f, 1.10775f, 1.05183f, 1, 0, 0, -0.0517824f, -0.107732f,
     -0.19841f, -0.320396f, -0.446834f, -0.524744f, -0.492592f, -0.318755f, -0.0367295f, 0.258224f,
     0.463906f, 0.5402f, 0.529297f, 0.504611f},
    {0.793713f, 0.854163f, 0.971279f, 1.0064f, 0.859729f, 0.545612f, 0.174709f, -0.126514f,
     -0.288163f, -0.315334f, -0.259136f, -0.176033f, -0.102698f, -0.0524642f, -0.0237681f, 0, 0, 0,
     -0.0237442f, -0.0524559f, -0.102679f, -0.176039f, -0.259142f, -0.315332f, -0.288165f,
     -0.126514f, 0.174709f, 0.545612f, 0.859729f, 1.00641f, 0.971276f, 0.854164f},
    {-7.28898e-07f, -0.215038f, -0.355084f, -0.382891f, -0.312326f, -0.192279f, -0.0755983f,
     0.00486988f, 0.0424595f, 0.0481919f, 0.0380577f, 0.0244002f, 0.0133729f, 0.00641621f,
     0.00273417f, 0, 0, 0, -0.00273124f, -0.00641511f, -0.0133701f, -0.0244012f, -0.0380586f,
     -0.0481915f, -0.04246f, -0.00486988f, 0.0755983f, 0.192279f, 0.312326f, 0.382892f, 0.355081f,
     0.21504f},
};

#define GELU_END 4.49f /* rounds to index 15 at most */

INLINE vec quadratic(const float table[3][32], vec x) {
    /* 1.5 * 2^23: adding it rounds to an integer, whose last five bits select. */
    const __m512i i = (__m512i)(x * 3.45f + 12582912.0f);
    vec p[3];
    for (int k = 0; k < 3; k++)
        p[k] = (vec)_mm512_permutex2var_ps((__m512)LOAD(table[k]), i, (__m512)LOAD(table[k] + 16));
    return (p[2] * x + p[1]) * x + p[0];
}

INLINE vec gelu_cdf(vec x) { return quadratic(GELU_CDF, x); }

INLINE vec gelu_slope(vec x) { return quadratic(GELU_SLOPE, x); }
#elif defined(BFLOAT16)
/* Each from a polynomial in x^2 for |x| <= 4.5, without exponential and division. Their errors of
 * 5e-5 and 2e-4 are a fraction of bfloat16's rounding. */
#define GELU_END 4.5f

INLINE vec gelu_cdf(vec x) {
    vec u = x * x, p = SPLAT(-6.10083923e-13f);
    p = p * u + 9.17100701e-11f;
    p = p * u - 5.93105787e-09f;
    p = p * u + 2.20708316e-07f;
    p = p * u - 5.3248973e-06f;
    p = p * u + 8.90381489e-05f;
    p = p * u - 1.07760471e-03f;
    p = p * u + 9.703869e-03f;
    p = p * u - 6.61565736e-02f;
    p = p * u + 3.98797929e-01f;
    /* Below 0 at -4.5 however it is rounded (0.5 would give 1.6e-6 without FMA). */
    return VEC_MAX((vec){0}, p * x + 0.499997f);
}

INLINE vec gelu_slope(vec x) {
    vec u = x * x, p = SPLAT(-2.42486569e-11f);
    p = p * u + 2.73407719e-09f;
    p = p * u - 1.35763813e-07f;
    p = p * u + 3.92989386e-06f;
    p = p * u - 7.41225158e-05f;
    p = p * u + 9.65374988e-04f;
    p = p * u - 8.94365367e-03f;
    p = p * u + 5.89788593e-02f;
    p = p * u - 2.65444309e-01f;
    p = p * u + 7.97872245e-01f;
    return p * x + 0.5f;
}
#endif

#ifdef BFLOAT16
INLINE vec gelu_clamp(vec x) { return VEC_MAX(SPLAT(-GELU_END), VEC_MIN(SPLAT(GELU_END), x)); }

INLINE vec gelu(vec x) { return x * gelu_cdf(gelu_clamp(x)); }

INLINE void gelu_and_slope(vec x, vec *act, vec *slope) {
    vec y = gelu_clamp(x);
    *act = x * gelu_cdf(y);
    *slope = gelu_slope(y);
}
#else
/* CDF and PDF of the normal distribution at x. The CDF follows Abramowitz and Stegun 7.1.26, whose
 * error is at most 7.5e-8; both share one exponential. */
INLINE void normal_cdf_pdf(vec x, vec *cdf, vec *pdf) {
    vec size = (vec)((ivec)x & 0x7fffffff);
    vec t = 1.0f / (1.0f + 0.23164190f * size); /* 0.3275911 / sqrt(2) */
    vec e = fast_exp2(x * x * -0.72134752044448170f);
    vec p = SPLAT(0.5307027145f); /* this and the next four: half of the source's coefficients */
    p = p * t - 0.7265760135f;
    p = p * t + 0.7107068705f;
    p = p * t - 0.142248368f;
    p = p * t + 0.127414796f;
    vec tail = p * t * e;
    *cdf = where_negative(x, tail, 1.0f - tail);
    *pdf = 0.3989422804014327f * e;
}

INLINE vec gelu(vec x) {
    vec cdf, pdf;
    normal_cdf_pdf(x, &cdf, &pdf);
    return x * cdf;
}

INLINE void gelu_and_slope(vec x, vec *act, vec *slope) {
    vec cdf, pdf;
    normal_cdf_pdf(x, &cdf, &pdf);
    *act = x * cdf;
    *slope = cdf + x * pdf;
}
#endif
