/* BatchNorm with GELU, and LayerNorm. See common.h. */

#include "common.h"

INLINE void bn_gelu_row(const elem *x, const float *scale, const float *offset,
                        const elem *residual, elem *to, int64_t C) {
    BUFFER(buffer);
    for (int64_t c = 0; c < C; c += PIECE) {
        int64_t n = MIN(PIECE, C - c);
        float *y = FLOATS_OF(to + c, buffer);
        bn_gelu_floats(x + c, scale ? scale + c : NULL, offset ? offset + c : NULL,
                       residual ? residual + c : NULL, y, n);
        store_elems(to + c, y, n);
    }
}

/* out = gelu(x scale + offset) + residual.
 * x, out: (T, C).
 * scale, offset: (C), or NULL for 1 and 0.
 * residual: (T, C) or NULL. */
int bn_gelu(const elem *x, const float *scale, const float *offset, const elem *residual, elem *out,
            int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const elem *add = residual ? residual + t * C : NULL;
        if (scale && add)
            bn_gelu_row(x + t * C, scale, offset, add, out + t * C, C);
        else if (scale)
            bn_gelu_row(x + t * C, scale, offset, NULL, out + t * C, C);
        else if (add)
            bn_gelu_row(x + t * C, NULL, NULL, add, out + t * C, C);
        else
            bn_gelu_row(x + t * C, NULL, NULL, NULL, out + t * C, C);
    }
    return 0;
}

/* Two sums per channel and thread: float for a block of rows, double for all rows. */
typedef struct {
    float *rows;      /* (threads, 2, C) */
    double *partials; /* (threads, 2, C) */
    int64_t C;
} Sums;

/* `rows` is NULL if an allocation failed. */
static Sums new_sums(int64_t C, int threads) {
    size_t n = (size_t)threads * 2 * C;
    Sums s = {alloc_zeros(n), calloc(n, sizeof(double)), C};
    if (s.rows && s.partials) return s;
    free(s.rows), free(s.partials);
    return (Sums){NULL, NULL, C};
}

/* Add the float sums of thread k to its double sums and clear them. */
static void flush_sums(Sums *s, int k) {
    float *rows = s->rows + (size_t)k * 2 * s->C;
    double *part = s->partials + (size_t)k * 2 * s->C;
    for (int64_t i = 0; i < 2 * s->C; i++) part[i] += rows[i];
    memset(rows, 0, 2 * s->C * sizeof(float));
}

static void reduce_sums(Sums *s, double *out, int threads) {
    reduce_threads(s->partials, out, 2 * s->C, threads);
    free(s->rows), free(s->partials);
}

INLINE void bn_gelu_backward_row(const elem *x, const elem *grad, const float *scale,
                                 const float *offset, elem *grad_pre_act, elem *act,
                                 float *sum_grad, float *sum_grad_x, int64_t C) {
    BUFFER(grad_buffer);
    BUFFER(act_buffer);
    for (int64_t c0 = 0; c0 < C; c0 += PIECE) {
        int64_t n = MIN(PIECE, C - c0);
        float *to = FLOATS_OF(grad_pre_act + c0, grad_buffer);
        float *act_row = act ? FLOATS_OF(act + c0, act_buffer) : NULL;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            int64_t c = c0 + i;
            float a, slope, from = widen(x[c]);
            gelu_and_slope(from * scale[c] + offset[c], &a, &slope);
            float s = widen(grad[c]) * slope;
            if (act_row) act_row[i] = a;
            to[i] = s;
            sum_grad[c] += s;
            sum_grad_x[c] += s * from;
        }
        store_elems(grad_pre_act + c0, to, n);
        if (act) store_elems(act + c0, act_row, n);
    }
}

/* Backward of gelu(x scale + offset), and the sums that the backward of BatchNorm uses.
 * x, grad: (T, C).
 * grad_pre_act: (T, C), grad gelu'(x scale + offset); may be the array of grad.
 * act: (T, C), gelu(x scale + offset), or NULL.
 * sums: (2, C), sums over tokens of grad_pre_act and grad_pre_act x. */
int bn_gelu_backward(const elem *x, const elem *grad, const float *scale, const float *offset,
                     elem *grad_pre_act, elem *act, double *sums, int64_t T, int64_t C,
                     int threads) {
    enum { BLOCK = 32 };
    Sums total = new_sums(C, threads);
    if (!total.rows) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *sum_grad = total.rows + (size_t)k * 2 * C, *sum_grad_x = sum_grad + C;
        for (int64_t t0 = T * k / threads; t0 < T * (k + 1) / threads; t0 += BLOCK) {
            for (int64_t t = t0; t < MIN(t0 + BLOCK, T * (k + 1) / threads); t++)
                bn_gelu_backward_row(x + t * C, grad + t * C, scale, offset, grad_pre_act + t * C,
                                     act ? act + t * C : NULL, sum_grad, sum_grad_x, C);
            flush_sums(&total, k);
        }
    }
    reduce_sums(&total, sums, threads);
    return 0;
}

/* Backward of BatchNorm, in place: grad = a grad + b x + c per channel.
 * grad, x: (T, C).
 * a, b, c: (C). */
int bn_backward(elem *grad, const elem *x, const float *a, const float *b, const float *c,
                int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        BUFFER(buffer);
        for (int64_t i0 = 0; i0 < C; i0 += PIECE) {
            int64_t n = MIN(PIECE, C - i0);
            elem *from = grad + t * C + i0;
            const elem *by = x + t * C + i0;
            float *to = FLOATS_OF(from, buffer);
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                to[i] = a[i0 + i] * widen(from[i]) + b[i0 + i] * widen(by[i]) + c[i0 + i];
            store_elems(from, to, n);
        }
    }
    return 0;
}

/* Update moments by `rows` rows of x (Chan, Golub and LeVeque). work: (3, C).
 * A second pass corrects the rounding error of the first mean. */
void update_moments(Moments *m, const elem *x, int64_t rows, int64_t C, float *work) {
    float *mean = work, *residue = work + C, *square = work + 2 * C;
    memset(work, 0, 3 * C * sizeof(float));
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) mean[c] += widen(x[t * C + c]);
    for (int64_t c = 0; c < C; c++) mean[c] /= rows;
    for (int64_t t = 0; t < rows; t++)
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float off = widen(x[t * C + c]) - mean[c];
            residue[c] += off;
            square[c] += off * off;
        }
    double total = m->n + rows;
    for (int64_t c = 0; c < C; c++) {
        double correction = residue[c] / (double)rows, delta = mean[c] + correction - m->mean[c];
        m->mean[c] += delta * rows / total;
        m->m2[c] +=
            square[c] - rows * correction * correction + delta * delta * m->n * rows / total;
    }
    m->n = total;
}

/* Merge the moments of all threads into mean and variance, (2, C); NaN for T = 0, as PyTorch. */
void merge_moments(Moments *partials, int threads, int64_t C, int64_t T, float *out) {
    Moments *all = partials;
    for (int k = 1; k < threads; k++) {
        Moments *m = partials + k;
        double total = all->n + m->n;
        if (m->n == 0) continue;
        for (int64_t c = 0; c < C; c++) {
            double delta = m->mean[c] - all->mean[c];
            all->mean[c] += delta * m->n / total;
            all->m2[c] += m->m2[c] + delta * delta * all->n * m->n / total;
        }
        all->n = total;
    }
    for (int64_t c = 0; c < C; c++) {
        out[c] = T ? (float)all->mean[c] : NAN;
        out[C + c] = (float)(all->m2[c] / T);
    }
}

Moments *new_moments(int threads, int64_t C) {
    Moments *partials = calloc(threads, sizeof(Moments));
    double *space = calloc((size_t)threads * 2 * C, sizeof(double));
    if (!partials || !space) {
        free(partials), free(space);
        return NULL;
    }
    for (int k = 0; k < threads; k++) {
        partials[k].mean = space + (size_t)k * 2 * C;
        partials[k].m2 = partials[k].mean + C;
    }
    return partials;
}

void free_moments(Moments *partials) { free(partials[0].mean), free(partials); }

/* out (2, C) = mean and biased variance per channel of x (T, C). */
int moments(const elem *x, float *out, int64_t T, int64_t C, int threads) {
    enum { BLOCK = 64 };
    Moments *partials = new_moments(threads, C);
    float *space = alloc_floats((size_t)threads * 3 * C);
    if (!partials || !space) {
        if (partials) free_moments(partials);
        free(space);
        return 1;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        float *work = space + (size_t)k * 3 * C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t = T * k / threads; t < end; t += BLOCK)
            update_moments(partials + k, x + t * C, MIN(BLOCK, end - t), C, work);
    }
    merge_moments(partials, threads, C, T, out);
    free_moments(partials), free(space);
    return 0;
}

/* LayerNorm over C.
 * x, out: (T, C).
 * mean_and_rstd: (2, T), mean and 1 / standard deviation of each token. */
int layer_norm(const elem *x, const float *gamma, const float *beta, elem *out,
               float *mean_and_rstd, double eps, int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        BUFFER(buffer);
        const elem *from = x + t * C;
        float mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
        for (int64_t c = 0; c < C; c++) mean += widen(from[c]);
        mean /= C;
#pragma omp simd reduction(+ : square)
        for (int64_t c = 0; c < C; c++) square += (widen(from[c]) - mean) * (widen(from[c]) - mean);
        float rstd = 1 / sqrtf(square / C + (float)eps);
        for (int64_t c0 = 0; c0 < C; c0 += PIECE) {
            int64_t n = MIN(PIECE, C - c0);
            float *to = FLOATS_OF(out + t * C + c0, buffer);
            for (int64_t c = 0; c < n; c++)
                to[c] = (widen(from[c0 + c]) - mean) * rstd * gamma[c0 + c] + beta[c0 + c];
            store_elems(out + t * C + c0, to, n);
        }
        mean_and_rstd[t] = mean, mean_and_rstd[T + t] = rstd;
    }
    return 0;
}

/* Backward of `layer_norm`.
 * x, mean_and_rstd, gamma: as in `layer_norm`.
 * grad, residual: (T, C).
 * out: (T, C), gradient of x plus residual.
 * sums: (2, C), gradients of gamma and beta. */
int layer_norm_backward(const elem *x, const float *mean_and_rstd, const float *gamma,
                        const elem *grad, const elem *residual, elem *out, double *sums, int64_t T,
                        int64_t C, int threads) {
    enum { BLOCK = 32 };
    Sums total = new_sums(C, threads);
    if (!total.rows) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        BUFFER(buffer);
        float *grad_gamma = total.rows + (size_t)k * 2 * C, *grad_beta = grad_gamma + C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t0 = T * k / threads; t0 < end; t0 += BLOCK) {
            for (int64_t t = t0; t < MIN(t0 + BLOCK, end); t++) {
                const elem *from = x + t * C, *by = grad + t * C, *add = residual + t * C;
                float mean = mean_and_rstd[t], rstd = mean_and_rstd[T + t], sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
                for (int64_t c = 0; c < C; c++) {
                    float y = (widen(from[c]) - mean) * rstd, b = widen(by[c]), g = b * gamma[c];
                    sum += g;
                    dot += g * y;
                    grad_gamma[c] += b * y;
                    grad_beta[c] += b;
                }
                sum /= C, dot /= C;
                for (int64_t c0 = 0; c0 < C; c0 += PIECE) {
                    int64_t n = MIN(PIECE, C - c0);
                    float *to = FLOATS_OF(out + t * C + c0, buffer);
                    for (int64_t i = 0; i < n; i++) {
                        int64_t c = c0 + i;
                        float y = (widen(from[c]) - mean) * rstd;
                        to[i] = (widen(by[c]) * gamma[c] - sum - y * dot) * rstd + widen(add[c]);
                    }
                    store_elems(out + t * C + c0, to, n);
                }
            }
            flush_sums(&total, k);
        }
    }
    reduce_sums(&total, sums, threads);
    return 0;
}
