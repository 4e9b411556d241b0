/* BatchNorm with GELU, and LayerNorm, between two matrix products. See common.h. */

#include "common.h"

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

/* Two sums by channel for every thread: of a few rows in floats, of all in doubles. */
typedef struct {
    float *rows;   /* (threads, 2, C), zeros to begin with */
    double *parts; /* the same */
    int64_t C;
} Sums;

/* Without `rows` where memory ran out. */
static Sums new_sums(int64_t C, int threads) {
    size_t n = (size_t)threads * 2 * C;
    Sums s = {zeros(n), calloc(n, sizeof(double)), C};
    if (s.rows && s.parts) return s;
    free(s.rows), free(s.parts);
    return (Sums){NULL, NULL, C};
}

/* From floats to doubles, for thread k. */
static void take_over(Sums *s, int k) {
    float *rows = s->rows + (size_t)k * 2 * s->C;
    double *part = s->parts + (size_t)k * 2 * s->C;
    for (int64_t i = 0; i < 2 * s->C; i++) part[i] += rows[i];
    memset(rows, 0, 2 * s->C * sizeof(float));
}

static void end_sums(Sums *s, double *out, int threads) {
    add_up(s->parts, out, 2 * s->C, threads);
    free(s->rows), free(s->parts);
}

/* Backward of gelu(x scale + offset): slope = grad gelu'(x scale + offset), and what the gradient of
 * BatchNorm needs of it.
 * x, grad, slope, act: (T, C); slope may be grad; act = gelu(x scale + offset), or NULL.
 * sums: (2, C), the sums over tokens of slope and of slope x. */
int norm_gelu_backward(const float *x, const float *grad, const float *scale, const float *offset,
                       float *slope, float *act, double *sums, int64_t T, int64_t C, int threads) {
    enum { BLOCK = 32 };
    Sums total = new_sums(C, threads);
    if (!total.rows) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *first = total.rows + (size_t)k * 2 * C, *second = first + C;
        for (int64_t t0 = T * k / threads; t0 < T * (k + 1) / threads; t0 += BLOCK) {
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
            take_over(&total, k);
        }
    }
    end_sums(&total, sums, threads);
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

/* Chan, Golub and LeVeque's update by `rows` rows of x; work: (3, C). The mean of these rows is found
 * twice, the second time as what the first one, a rounded number, leaves over. */
void take_in(Moments *m, const float *x, int64_t rows, int64_t C, float *work) {
    float *mean = work, *rest = work + C, *square = work + 2 * C;
    memset(work, 0, 3 * C * sizeof(float));
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) mean[c] += x[t * C + c];
    for (int64_t c = 0; c < C; c++) mean[c] /= rows;
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float off = x[t * C + c] - mean[c];
            rest[c] += off;
            square[c] += off * off;
        }
    double total = m->n + rows;
    for (int64_t c = 0; c < C; c++) {
        double left = rest[c] / (double)rows, delta = mean[c] + left - m->mean[c];
        m->mean[c] += delta * rows / total;
        m->squares[c] += square[c] - rows * left * left + delta * delta * m->n * rows / total;
    }
    m->n = total;
}

/* Of all parts together, over T tokens; of none as in PyTorch NaN. */
void join_moments(Moments *parts, int threads, int64_t C, int64_t T, float *out) {
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
        out[c] = T ? (float)all->mean[c] : NAN;
        out[C + c] = (float)(all->squares[c] / T);
    }
}

Moments *new_moments(int threads, int64_t C) {
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

void free_moments(Moments *parts) { free(parts[0].mean), free(parts); }

/* Mean and variance over T by channel, (2, C), of x (T, C). */
int moments(const float *x, float *out, int64_t T, int64_t C, int threads) {
    enum { BLOCK = 64 };
    Moments *parts = new_moments(threads, C);
    float *space = floats((size_t)threads * 3 * C);
    if (!parts || !space) {
        if (parts) free_moments(parts);
        free(space);
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *work = space + (size_t)k * 3 * C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t = T * k / threads; t < end; t += BLOCK)
            take_in(parts + k, x + t * C, MIN(BLOCK, end - t), C, work);
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
    Sums total = new_sums(C, threads);
    if (!total.rows) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *first = total.rows + (size_t)k * 2 * C, *second = first + C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t0 = T * k / threads; t0 < end; t0 += BLOCK) {
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
            take_over(&total, k);
        }
    }
    end_sums(&total, sums, threads);
    return 0;
}

