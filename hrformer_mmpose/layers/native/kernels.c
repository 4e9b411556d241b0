/* What HRFormer's transformer block does between its matrix products, on CPUs, in one pass each.
 *
 * Plain C with GCC's vector extensions (GCC and Clang), OpenMP for threads; built on the user's
 * machine for its processor by `build.py`, called by `__init__.py`. The plain PyTorch twin of every
 * function stands in `../passes.py`.
 *
 * All arrays are float32, contiguous, channels last. B maps, H and W of a map, C channels, T = B*H*W
 * tokens, h heads, d = C / h head width, N tokens a window. `V` is the width of a vector. Functions
 * return 0, or 1 when memory ran out.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define V 16
#define SPLAT(x) ((vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x})
#elif defined(__AVX__)
#define V 8
#define SPLAT(x) ((vec){x, x, x, x, x, x, x, x})
#else
#define V 4
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

static float *floats(size_t n) { return aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64); }

static float *zeros(size_t n) {
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

/* ---------------------------------------------------------------------------------------------
 * BatchNorm and GELU between two matrix products
 * ------------------------------------------------------------------------------------------- */

/* A row: to = gelu(x scale + offset) + residual; without scale 1 and 0, without residual 0. */
INLINE void gelu_of(const float *x, const float *scale, const float *offset, const float *residual,
                    float *to, int64_t C) {
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        to[c] = gelu(scale ? x[c] * scale[c] + offset[c] : x[c]) + (residual ? residual[c] : 0.0f);
}

/* out = gelu(x scale + offset) + residual. x, out, residual (or NULL): (T, C). scale, offset: (C), or
 * NULL for 1 and 0. */
int norm_gelu(const float *x, const float *scale, const float *offset, const float *residual,
              float *out, int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const float *add = residual ? residual + t * C : NULL;
        if (scale && add)
            gelu_of(x + t * C, scale, offset, add, out + t * C, C);
        else if (scale)
            gelu_of(x + t * C, scale, offset, NULL, out + t * C, C);
        else if (add)
            gelu_of(x + t * C, NULL, NULL, add, out + t * C, C);
        else
            gelu_of(x + t * C, NULL, NULL, NULL, out + t * C, C);
    }
    return 0;
}

/* The sum of `threads` rows of n numbers. */
static void add_up(const double *parts, double *out, int64_t n, int threads) {
    memset(out, 0, n * sizeof(double));
    for (int k = 0; k < threads; k++)
        for (int64_t i = 0; i < n; i++) out[i] += parts[k * n + i];
}

/* Backward of gelu(x scale + offset): slope = grad gelu'(x scale + offset), and what the gradient of
 * BatchNorm needs of it.
 * x, grad, slope, act: (T, C); slope may be grad; act = gelu(x scale + offset), or NULL.
 * sums: (2, C), the sums over tokens of slope and of slope x. */
int norm_gelu_backward(const float *x, const float *grad, const float *scale, const float *offset,
                       float *slope, float *act, double *sums, int64_t T, int64_t C, int threads) {
    enum { BLOCK = 32 };
    double *parts = calloc((size_t)threads * 2 * C, sizeof(double));
    float *rows = floats((size_t)threads * 2 * ROUND_UP(C));
    if (!parts || !rows) {
        free(parts), free(rows);
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        double *part = parts + (size_t)k * 2 * C;
        float *first = rows + (size_t)k * 2 * ROUND_UP(C), *second = first + ROUND_UP(C);
        for (int64_t t0 = T * k / threads; t0 < T * (k + 1) / threads; t0 += BLOCK) {
            memset(first, 0, 2 * ROUND_UP(C) * sizeof(float));
            for (int64_t t = t0; t < MIN(t0 + BLOCK, T * (k + 1) / threads); t++) {
                const float *from = x + t * C, *by = grad + t * C;
                float *to = slope + t * C, *kept = act ? act + t * C : NULL;
#pragma omp simd
                for (int64_t c = 0; c < C; c++) {
                    float integral, density, y = from[c] * scale[c] + offset[c];
                    normal(y, &integral, &density);
                    float s = by[c] * (integral + y * density);
                    if (kept) kept[c] = y * integral;
                    to[c] = s;
                    first[c] += s;
                    second[c] += s * from[c];
                }
            }
            for (int64_t c = 0; c < C; c++) part[c] += first[c], part[C + c] += second[c];
        }
    }
    add_up(parts, sums, 2 * C, threads);
    free(parts), free(rows);
    return 0;
}

/* slope = a slope + b x + c, by channel: the gradient of BatchNorm. Maps (T, C); a, b, c: (C). */
int scale_add(float *slope, const float *x, const float *a, const float *b, const float *c,
              int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
#pragma omp simd
        for (int64_t i = 0; i < C; i++)
            slope[t * C + i] = a[i] * slope[t * C + i] + b[i] * x[t * C + i] + c[i];
    }
    return 0;
}

/* Mean and variance (the sum of squares about the mean, over T) by channel, (2, C), of x (T, C). */
typedef struct {
    double n, *mean, *squares;
} Moments;

/* Take in `rows` rows of n channels, Chan, Golub and LeVeque's update; sum and square: (C) each. */
static void take_in(Moments *m, const float *x, int64_t rows, int64_t C, float *sum, float *square) {
    memset(sum, 0, C * sizeof(float));
    memset(square, 0, C * sizeof(float));
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) sum[c] += x[t * C + c];
    for (int64_t c = 0; c < C; c++) sum[c] /= rows;
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float off = x[t * C + c] - sum[c];
            square[c] += off * off;
        }
    double total = m->n + rows;
    for (int64_t c = 0; c < C; c++) {
        double delta = sum[c] - m->mean[c];
        m->mean[c] += delta * rows / total;
        m->squares[c] += square[c] + delta * delta * m->n * rows / total;
    }
    m->n = total;
}

static void join_moments(Moments *parts, int threads, int64_t C, int64_t T, float *out) {
    Moments *all = parts;
    for (int k = 1; k < threads; k++) {
        Moments *m = parts + k;
        double total = all->n + m->n;
        if (m->n == 0) continue;
        for (int64_t c = 0; c < C; c++) {
            double delta = m->mean[c] - all->mean[c];
            all->mean[c] += delta * m->n / total;
            all->squares[c] += m->squares[c] + delta * delta * all->n * m->n / total;
        }
        all->n = total;
    }
    for (int64_t c = 0; c < C; c++) {
        out[c] = (float)all->mean[c];
        out[C + c] = (float)(all->squares[c] / T);
    }
}

static Moments *new_moments(int threads, int64_t C) {
    Moments *parts = calloc(threads, sizeof(Moments));
    double *space = calloc((size_t)threads * 2 * C, sizeof(double));
    if (!parts || !space) {
        free(parts), free(space);
        return NULL;
    }
    for (int k = 0; k < threads; k++) {
        parts[k].mean = space + (size_t)k * 2 * C;
        parts[k].squares = parts[k].mean + C;
    }
    return parts;
}

static void free_moments(Moments *parts) { free(parts[0].mean), free(parts); }

int moments(const float *x, float *out, int64_t T, int64_t C, int threads) {
    enum { BLOCK = 64 };
    Moments *parts = new_moments(threads, C);
    float *space = floats((size_t)threads * 2 * C);
    if (!parts || !space) {
        if (parts) free_moments(parts);
        free(space);
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *sum = space + (size_t)k * 2 * C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t = T * k / threads; t < end; t += BLOCK)
            take_in(parts + k, x + t * C, MIN(BLOCK, end - t), C, sum, sum + C);
    }
    join_moments(parts, threads, C, T, out);
    free_moments(parts), free(space);
    return 0;
}

/* LayerNorm over C, and (2, T): mean and 1 / standard deviation of every token. */
int layer_norm(const float *x, const float *gamma, const float *beta, float *out, float *statistics,
               double eps, int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const float *from = x + t * C;
        float *to = out + t * C, mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
        for (int64_t c = 0; c < C; c++) mean += from[c];
        mean /= C;
#pragma omp simd reduction(+ : square)
        for (int64_t c = 0; c < C; c++) square += (from[c] - mean) * (from[c] - mean);
        float rstd = 1 / sqrtf(square / C + (float)eps);
        for (int64_t c = 0; c < C; c++) to[c] = (from[c] - mean) * rstd * gamma[c] + beta[c];
        statistics[t] = mean, statistics[T + t] = rstd;
    }
    return 0;
}

/* Backward of `layer_norm`, whose x and statistics it takes. grad, residual, out: (T, C);
 * out = gradient of x, plus residual. sums: (2, C), the gradients of gamma and beta. */
int layer_norm_backward(const float *x, const float *statistics, const float *gamma,
                        const float *grad, const float *residual, float *out, double *sums,
                        int64_t T, int64_t C, int threads) {
    enum { BLOCK = 32 };
    double *parts = calloc((size_t)threads * 2 * C, sizeof(double));
    float *rows = floats((size_t)threads * 2 * ROUND_UP(C));
    if (!parts || !rows) {
        free(parts), free(rows);
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        double *part = parts + (size_t)k * 2 * C;
        float *first = rows + (size_t)k * 2 * ROUND_UP(C), *second = first + ROUND_UP(C);
        int64_t end = T * (k + 1) / threads;
        for (int64_t t0 = T * k / threads; t0 < end; t0 += BLOCK) {
            memset(first, 0, 2 * ROUND_UP(C) * sizeof(float));
            for (int64_t t = t0; t < MIN(t0 + BLOCK, end); t++) {
                const float *from = x + t * C, *by = grad + t * C, *add = residual + t * C;
                float *to = out + t * C, mean = statistics[t], rstd = statistics[T + t];
                float sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
                for (int64_t c = 0; c < C; c++) {
                    float y = (from[c] - mean) * rstd, g = by[c] * gamma[c];
                    sum += g;
                    along += g * y;
                    first[c] += by[c] * y;
                    second[c] += by[c];
                }
                sum /= C, along /= C;
                for (int64_t c = 0; c < C; c++) {
                    float y = (from[c] - mean) * rstd;
                    to[c] = (by[c] * gamma[c] - sum - y * along) * rstd + add[c];
                }
            }
            for (int64_t c = 0; c < C; c++) part[c] += first[c], part[C + c] += second[c];
        }
    }
    add_up(parts, sums, 2 * C, threads);
    free(parts), free(rows);
    return 0;
}

/* ---------------------------------------------------------------------------------------------
 * The depth-wise convolution, 3x3, padded by one
 *
 * A thread walks down its rows and keeps three of them in a ring, with a column of zeros at either
 * side and channels filled up to whole vectors.
 * ------------------------------------------------------------------------------------------- */

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
    float *taps = zeros(10 * Cp), *space = floats((size_t)threads * 2 * C);
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
        float *memory = ring.rows[0], *sum = space + (size_t)k * 2 * C;
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
                take_in(parts + k, to, W, C, sum, sum + C);
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

/* ---------------------------------------------------------------------------------------------
 * Attention in windows
 *
 * Windows are cut where they lie: a token of the map is read and written at its place, a padded one
 * has the projection's bias for its query, key and value, and no query of its own.
 * ------------------------------------------------------------------------------------------- */

/* out (M, n vectors) = a (M, K) b (K, n vectors); a is walked by strides, so that its transpose
 * needs no copy. b and out are rows of ldb and ldo numbers. */
INLINE void tile(int m, int n, int64_t K, const float *a, int64_t across, int64_t along,
                 const float *b, int64_t ldb, float *out, int64_t ldo) {
    vec total[6][2];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) total[i][j] = (vec){0};
    for (int64_t k = 0; k < K; k++) {
        vec row[2];
        for (int j = 0; j < n; j++) row[j] = LOAD(b + k * ldb + j * V);
        for (int i = 0; i < m; i++) {
            vec factor = SPLAT(a[i * across + k * along]);
            for (int j = 0; j < n; j++) total[i][j] += factor * row[j];
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) STORE(out + i * ldo + j * V, total[i][j]);
}

#define ROWS(m, n)              \
    for (; i + m <= M; i += m) \
        tile(m, n, K, a + i * across, across, along, b, ldb, out + i * ldo, ldo);

static void product(int64_t M, int64_t N, int64_t K, const float *a, int64_t across, int64_t along,
                    const float *b, int64_t ldb, float *out, int64_t ldo) {
    /* Six rows by two vectors: twelve sums, and what they need, fill AVX's sixteen registers. */
    for (int64_t n = N / V; n > 1; n -= 2, b += 2 * V, out += 2 * V) {
        int64_t i = 0;
        ROWS(6, 2)
        ROWS(3, 2)
        ROWS(1, 2)
    }
    if (N / V % 2) {
        int64_t i = 0;
        ROWS(6, 1)
        ROWS(1, 1)
    }
}

typedef struct {
    int64_t B, H, W, heads, d, Kh, Kw, top, left, rows, cols;
    float factor; /* of the queries */
} Shape;

static Shape shape_of(int64_t B, int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh,
                      int64_t Kw, int64_t top, int64_t left) {
    int64_t rows = (H + top + Kh - 1) / Kh, cols = (W + left + Kw - 1) / Kw;
    return (Shape){B, H, W, heads, d, Kh, Kw, top, left, rows, cols, 1 / sqrtf((float)d)};
}

typedef struct {
    int64_t N, Np, dp, nq;      /* tokens, filled up; head width, filled up; queries */
    int64_t *place;             /* of each token: its number in the map, or -1 */
    int64_t *query;             /* the tokens that have one */
    const float *bias;          /* (h, N, Np) or, if it is the same for all heads, (N, Np) */
    int64_t bias_stride;        /* from head to head */
    float *q, *k, *v, *kt, *p;  /* (nq, dp), (N, dp), (N, dp), (d, Np), (nq, Np) */
    float *vt, *g, *gp, *grads; /* backward: (d, Np), (nq, dp), (nq, Np), (3, N, dp) */
} Window;

static int new_window(Window *w, const Shape *s, int backward) {
    memset(w, 0, sizeof *w);
    w->N = s->Kh * s->Kw, w->Np = ROUND_UP(w->N), w->dp = ROUND_UP(s->d);
    size_t wide = (size_t)w->N * w->dp, square = (size_t)w->N * w->Np, turned = (size_t)s->d * w->Np;
    w->place = malloc(2 * w->N * sizeof(int64_t));
    w->q = zeros(3 * wide + turned + square + (backward ? turned + square + 4 * wide : 0));
    if (!w->place || !w->q) {
        free(w->place), free(w->q);
        return 0;
    }
    w->query = w->place + w->N;
    w->k = w->q + wide, w->v = w->k + wide, w->kt = w->v + wide, w->p = w->kt + turned;
    w->vt = w->p + square, w->gp = w->vt + turned, w->g = w->gp + square, w->grads = w->g + wide;
    return 1;
}

static void free_window(Window *w) { free(w->place), free(w->q); }

/* Where the tokens of window `index` (of one map) lie in map b. */
static void locate(Window *w, const Shape *s, int64_t b, int64_t index) {
    int64_t y0 = index / s->cols * s->Kh - s->top, x0 = index % s->cols * s->Kw - s->left;
    w->nq = 0;
    for (int64_t i = 0; i < w->N; i++) {
        int64_t y = y0 + i / s->Kw, x = x0 + i % s->Kw;
        int inside = y >= 0 && y < s->H && x >= 0 && x < s->W;
        w->place[i] = inside ? (b * s->H + y) * s->W + x : -1;
        if (inside) w->query[w->nq++] = i;
    }
}

/* Copies of n numbers, by whole vectors where there is room for one. */
INLINE void copy(float *to, const float *from, int64_t n, float factor) {
    if (n < V) {
        for (int64_t i = 0; i < n; i++) to[i] = from[i] * factor;
        return;
    }
    for (int64_t i = 0; i + V <= n; i += V) STORE(to + i, LOAD(from + i) * SPLAT(factor));
    STORE(to + n - V, LOAD(from + n - V) * SPLAT(factor)); /* overlaps the last one */
}

/* Four rows of n numbers at `from` into four columns of `to`, whose rows have ld numbers. */
INLINE void turn_four(const float *const from[4], float *to, int64_t n, int64_t ld) {
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t order __attribute__((vector_size(16)));
    int64_t c = 0;
    for (; c + 4 <= n; c += 4) {
        four row[4], mixed[4];
        for (int i = 0; i < 4; i++) row[i] = *(const four *)(from[i] + c);
        for (int i = 0; i < 2; i++) { /* a0 b0 a1 b1, then a2 b2 a3 b3, of rows 0 and 1, 2 and 3 */
            mixed[2 * i] = __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){0, 4, 1, 5});
            mixed[2 * i + 1] = __builtin_shuffle(row[2 * i], row[2 * i + 1], (order){2, 6, 3, 7});
        }
        for (int i = 0; i < 2; i++) {
            four *first = (four *)(to + (c + 2 * i) * ld), *second = (four *)(to + (c + 2 * i + 1) * ld);
            *first = __builtin_shuffle(mixed[i], mixed[i + 2], (order){0, 1, 4, 5});
            *second = __builtin_shuffle(mixed[i], mixed[i + 2], (order){2, 3, 6, 7});
        }
    }
    for (; c < n; c++)
        for (int i = 0; i < 4; i++) to[c * ld + i] = from[i][c];
}

/* row = softmax(row + bias) over n numbers. */
INLINE void softmax(float *row, const float *bias, int64_t n) {
    WHOLE_VECTORS(n);
    float top = -INFINITY, total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) {
        row[j] += bias[j];
        top = row[j] > top ? row[j] : top;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < n; j++) {
        row[j] = exp_of(row[j] - top);
        total += row[j];
    }
    float by = 1 / total;
    for (int64_t j = 0; j < n; j++) row[j] *= by;
}

/* The bias with rows filled up by -inf, so that nothing attends to what fills up a window. */
static float *filled_up(const float *bias, int64_t rows, int64_t N, int64_t Np) {
    float *to = floats(rows * Np);
    for (int64_t i = 0; to && i < rows; i++)
        for (int64_t j = 0; j < Np; j++)
            to[i * Np + j] = j >= N ? -INFINITY : bias ? bias[i * N + j] : 0;
    return to;
}

/* Queries, keys and values of token i, or those that pad the window. */
INLINE const float *token(const Window *w, const Shape *s, const float *qkv, const float *shift,
                          int64_t i, int64_t head) {
    return (w->place[i] < 0 ? shift : qkv + w->place[i] * 3 * s->heads * s->d) + head * s->d;
}

/* Asks for token i: tokens are too short, and lie too far apart, for the processor to guess. */
INLINE void ask_for(const Window *w, const Shape *s, const float *qkv, int64_t i, int64_t head) {
    if (i >= w->N || w->place[i] < 0) return;
    for (int64_t part = 0; part < 3; part++) {
        const float *from = qkv + ((w->place[i] * 3 + part) * s->heads + head) * s->d;
        for (int64_t c = 0; c < s->d; c += 16) __builtin_prefetch(from + c);
    }
}

/* Keys (part 1) or values (part 2) of all tokens as columns of `to`, (d, Np). */
static void turn_part(const Window *w, const Shape *s, const float *qkv, const float *shift,
                      int64_t head, int64_t part, float *to) {
    int64_t offset = part * s->heads * s->d, i = 0;
    for (; i + 4 <= w->N; i += 4) {
        const float *from[4];
        for (int j = 0; j < 4; j++) from[j] = token(w, s, qkv, shift, i + j, head) + offset;
        turn_four(from, to + i, s->d, w->Np);
    }
    for (; i < w->N; i++) {
        const float *from = token(w, s, qkv, shift, i, head) + offset;
        for (int64_t c = 0; c < s->d; c++) to[c * w->Np + i] = from[c];
    }
}

/* Softmax of q k^T / sqrt(d) + bias into w->p for one head. */
static void attend(Window *w, const Shape *s, const float *qkv, const float *shift, int64_t head) {
    enum { AHEAD = 6 };
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp;
    float *q = w->q;
    for (int64_t i = 0; i < AHEAD; i++) ask_for(w, s, qkv, i, head);
    for (int64_t i = 0; i < N; i++) {
        ask_for(w, s, qkv, i + AHEAD, head);
        const float *from = token(w, s, qkv, shift, i, head);
        copy(w->v + i * dp, from + 2 * C, d, 1);
        if (w->place[i] < 0) continue;
        copy(q, from, d, s->factor);
        q += dp;
    }
    turn_part(w, s, qkv, shift, head, 1, w->kt);
    product(w->nq, Np, d, w->q, dp, 1, w->kt, Np, w->p, Np);
    for (int64_t i = 0; i < w->nq; i++)
        softmax(w->p + i * Np, w->bias + head * w->bias_stride + w->query[i] * Np, Np);
}

/* out = softmax(q k^T / sqrt(d) + bias) v in every window.
 * qkv: (B, H, W, 3, h, d). shift: (3, h, d), the bias of the projection. bias: (h, N, N) or NULL.
 * out: (B, H, W, h, d). */
int window_attention(const float *qkv, const float *shift, const float *bias, float *out, int64_t B,
                     int64_t H, int64_t W, int64_t heads, int64_t d, int64_t Kh, int64_t Kw,
                     int64_t top, int64_t left, int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, top, left);
    int64_t N = Kh * Kw, windows = s.rows * s.cols, C = heads * d;
    float *filled = filled_up(bias, bias ? heads * N : N, N, ROUND_UP(N));
    if (!filled) return 1;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Window w;
        failed = !new_window(&w, &s, 0);
        w.bias = filled, w.bias_stride = bias ? N * w.Np : 0;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < B * windows * heads; i++) {
            if (failed) continue;
            int64_t head = i % heads;
            locate(&w, &s, i / heads / windows, i / heads % windows);
            attend(&w, &s, qkv, shift, head);
            product(w.nq, w.dp, N, w.p, w.Np, 1, w.v, w.dp, w.q, w.dp);
            for (int64_t q = 0; q < w.nq; q++)
                copy(out + w.place[w.query[q]] * C + head * d, w.q + q * w.dp, d, 1);
        }
        if (!failed) free_window(&w);
    }
    free(filled);
    return failed;
}

/* Gradients of one window and head into qkv's, and added to those of shift and bias. */
static void attend_backward(Window *w, const Shape *s, const float *qkv, const float *shift,
                            const float *grad, float *grad_qkv, float *grad_shift, float *grad_bias,
                            int64_t head) {
    int64_t C = s->heads * s->d, N = w->N, Np = w->Np, d = s->d, dp = w->dp, nq = w->nq;
    float *grad_q = w->grads, *grad_k = grad_q + N * dp, *grad_v = grad_k + N * dp;
    WHOLE_VECTORS(Np);
    for (int64_t i = 0; i < N; i++) {
        const float *from = token(w, s, qkv, shift, i, head);
        copy(w->k + i * dp, from + C, d, 1);
    }
    turn_part(w, s, qkv, shift, head, 2, w->vt);
    for (int64_t i = 0; i < nq; i++)
        copy(w->g + i * dp, grad + w->place[w->query[i]] * C + head * d, d, 1);
    product(N, dp, nq, w->p, 1, Np, w->g, dp, grad_v, dp);
    product(nq, Np, d, w->g, dp, 1, w->vt, Np, w->gp, Np);
    for (int64_t i = 0; i < nq; i++) {
        float *row = w->gp + i * Np, *p = w->p + i * Np, total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < Np; j++) total += row[j] * p[j];
        for (int64_t j = 0; j < Np; j++) row[j] = p[j] * (row[j] - total);
        if (grad_bias) {
            float *to = grad_bias + (head * N + w->query[i]) * Np;
            for (int64_t j = 0; j < Np; j++) to[j] += row[j];
        }
    }
    product(nq, dp, N, w->gp, Np, 1, w->k, dp, grad_q, dp);
    product(N, dp, nq, w->gp, 1, Np, w->q, dp, grad_k, dp);
    for (int64_t i = 0; i < nq; i++) {
        float *row = grad_q + i * dp;
        for (int64_t c = 0; c < d; c++) {
            row[c] *= s->factor;
            grad_shift[head * d + c] += row[c];
        }
        copy(grad_qkv + w->place[w->query[i]] * 3 * C + head * d, row, d, 1);
    }
    for (int64_t i = 0; i < N; i++) {
        float *sum = grad_shift + head * d;
        for (int64_t c = 0; c < d; c++) {
            sum[C + c] += grad_k[i * dp + c];
            sum[2 * C + c] += grad_v[i * dp + c];
        }
        if (w->place[i] < 0) continue;
        float *to = grad_qkv + w->place[i] * 3 * C + head * d;
        copy(to + C, grad_k + i * dp, d, 1);
        copy(to + 2 * C, grad_v + i * dp, d, 1);
    }
}

/* Backward of `window_attention`. grad: (B, H, W, h, d). grad_qkv: like qkv. grad_shift: (3, h, d),
 * its sum over all tokens, padded ones included. grad_bias: (h, N, N), or NULL as bias. */
int window_attention_backward(const float *qkv, const float *shift, const float *bias,
                              const float *grad, float *grad_qkv, float *grad_shift,
                              float *grad_bias, int64_t B, int64_t H, int64_t W, int64_t heads,
                              int64_t d, int64_t Kh, int64_t Kw, int64_t top, int64_t left,
                              int threads) {
    Shape s = shape_of(B, H, W, heads, d, Kh, Kw, top, left);
    int64_t N = Kh * Kw, Np = ROUND_UP(N), C = heads * d, windows = s.rows * s.cols;
    int64_t tasks = B * windows * heads, own = 3 * C + (bias ? heads * N * Np : 0);
    float *filled = filled_up(bias, bias ? heads * N : N, N, Np);
    float *parts = zeros((size_t)threads * own);
    int failed = !filled || !parts;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(| : failed)
    for (int t = 0; t < threads; t++) {
        Window w;
        if (failed || !new_window(&w, &s, 1)) {
            failed = 1;
            continue;
        }
        w.bias = filled, w.bias_stride = bias ? N * Np : 0;
        float *own_shift = parts + t * own, *own_bias = bias ? own_shift + 3 * C : NULL;
        for (int64_t i = tasks * t / threads; i < tasks * (t + 1) / threads; i++) {
            int64_t head = i % heads;
            locate(&w, &s, i / heads / windows, i / heads % windows);
            attend(&w, &s, qkv, shift, head);
            attend_backward(&w, &s, qkv, shift, grad, grad_qkv, own_shift, own_bias, head);
        }
        free_window(&w);
    }
    if (!failed) {
        for (int t = 1; t < threads; t++)
            for (int64_t i = 0; i < own; i++) parts[i] += parts[t * own + i];
        memcpy(grad_shift, parts, 3 * C * sizeof(float));
        for (int64_t i = 0; bias && i < heads * N; i++)
            memcpy(grad_bias + i * N, parts + 3 * C + i * Np, N * sizeof(float));
    }
    free(filled), free(parts);
    return failed;
}
