/* BatchNorm with GELU, and LayerNorm. See common.h. */

#include "rows.h"

INLINE void bn_gelu_row(const elem *x, const float *scale, const float *offset,
                        const elem *residual, elem *to, int64_t C) {
    FOR_VECTORS(C, {
        vec y = gelu(scaled(x + c, scale ? scale + c : NULL, offset + c, n));
        if (residual) y += load_elems(residual + c, n);
        store_elems(to + c, y, n);
    });
}

/* out = gelu(x scale + offset) + residual.
 * x, out: (T, C).
 * scale, offset: (C), or NULL for 1 and 0.
 * residual: (T, C) or NULL. */
int bn_gelu(const elem *x, const float *scale, const float *offset, const elem *residual, elem *out,
            int64_t T, int64_t C, int threads) {
    enum { LENGTH = 4096 };
    if (!scale) { /* the same for all channels: rows of any length */
        int64_t total = T * C;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < total; i += LENGTH) {
            int64_t m = MIN(LENGTH, total - i);
            if (residual)
                bn_gelu_row(x + i, NULL, NULL, residual + i, out + i, m);
            else
                bn_gelu_row(x + i, NULL, NULL, NULL, out + i, m);
        }
        return 0;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        if (residual)
            bn_gelu_row(x + t * C, scale, offset, residual + t * C, out + t * C, C);
        else
            bn_gelu_row(x + t * C, scale, offset, NULL, out + t * C, C);
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
    FOR_VECTORS(C, {
        vec y;
        vec slope;
        vec from = load_elems(x + c, n);
        gelu_and_slope(from * load_floats(scale + c, n) + load_floats(offset + c, n), &y, &slope);
        vec s = load_elems(grad + c, n) * slope;
        if (act) store_elems(act + c, y, n);
        store_elems(grad_pre_act + c, s, n);
        store_floats(sum_grad + c, load_floats(sum_grad + c, n) + s, n);
        store_floats(sum_grad_x + c, load_floats(sum_grad_x + c, n) + s * from, n);
    });
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

/* Backward of BatchNorm, in place: grad = a grad + b x + offset per channel.
 * grad, x: (T, C).
 * a, b, offset: (C). */
int bn_backward(elem *grad, const elem *x, const float *a, const float *b, const float *offset,
                int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        elem *to = grad + t * C;
        const elem *from = x + t * C;
        FOR_VECTORS(C, {
            vec y = load_floats(b + c, n) * load_elems(from + c, n) + load_floats(offset + c, n);
            store_elems(to + c, load_floats(a + c, n) * load_elems(to + c, n) + y, n);
        });
    }
    return 0;
}

/* Update moments by `rows` rows of x (Chan, Golub and LeVeque), a map or floats. work: (3, C).
 * A second pass corrects the rounding error of the first mean. */
INLINE void add_rows(Moments *m, const void *x, int is_map, int64_t rows, int64_t C, float *work) {
    float *mean = work, *residue = work + C, *square = work + 2 * C;
    memset(work, 0, 3 * C * sizeof(float));
    for (int64_t t = 0; t < rows; t++)
        FOR_VECTORS(C, {
            vec sum = is_map ? load_elems((const elem *)x + t * C + c, n)
                             : load_floats((const float *)x + t * C + c, n);
            store_floats(mean + c, load_floats(mean + c, n) + sum, n);
        });
    for (int64_t c = 0; c < C; c++) mean[c] /= rows;
    for (int64_t t = 0; t < rows; t++)
        FOR_VECTORS(C, {
            vec off = is_map ? load_elems((const elem *)x + t * C + c, n)
                             : load_floats((const float *)x + t * C + c, n);
            off -= load_floats(mean + c, n);
            store_floats(residue + c, load_floats(residue + c, n) + off, n);
            store_floats(square + c, load_floats(square + c, n) + off * off, n);
        });
    double total = m->n + rows;
    for (int64_t c = 0; c < C; c++) {
        double correction = residue[c] / (double)rows, delta = mean[c] + correction - m->mean[c];
        m->mean[c] += delta * rows / total;
        m->m2[c] +=
            square[c] - rows * correction * correction + delta * delta * m->n * rows / total;
    }
    m->n = total;
}

void update_moments(Moments *m, const float *x, int64_t rows, int64_t C, float *work) {
    add_rows(m, x, 0, rows, C, work);
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
            add_rows(partials + k, x + t * C, 1, MIN(BLOCK, end - t), C, work);
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
    for (int64_t t = 0; t < T; t++)
        layer_norm_row(x + t * C, 1, gamma, beta, out + t * C, eps, C, mean_and_rstd + t,
                       mean_and_rstd + T + t);
    return 0;
}

/* total = stream + branch; out = LayerNorm of total.
 * out: (T, C).
 * branch: (T, C), or NULL for 0; total, (T, C) floats, is then NULL, too.
 * stream: (T, C), floats. */
int add_layer_norm(elem *out, const elem *branch, const float *stream, const float *gamma,
                   const float *beta, float *total, double eps, int64_t T, int64_t C, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const float *row = stream + t * C;
        float mean, rstd;
        if (branch) {
            const elem *other = branch + t * C;
            float *to = total + t * C;
            FOR_VECTORS(C, {
                vec sum = load_floats(row + c, n) + load_elems(other + c, n);
                store_floats(to + c, sum, n);
            });
            row = to;
        }
        layer_norm_row(row, 0, gamma, beta, out + t * C, eps, C, &mean, &rstd);
    }
    return 0;
}

/* total = stream + gelu(branch).
 * branch: `size` numbers of a map.
 * stream, total: `size` floats. */
int add_gelu(const elem *branch, const float *stream, float *total, int64_t size, int threads) {
    enum { LENGTH = 4096 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < size; i += LENGTH) {
        const elem *from = branch + i;
        const float *row = stream + i;
        float *to = total + i;
        FOR_VECTORS(MIN(LENGTH, size - i), {
            vec y = load_floats(row + c, n) + gelu(load_elems(from + c, n));
            store_floats(to + c, y, n);
        });
    }
    return 0;
}

INLINE void layer_norm_backward_row(const elem *x, float mean, float rstd, const float *gamma,
                                    const elem *grad, const elem *residual, elem *out,
                                    float *grad_gamma, float *grad_beta, int64_t C) {
    vec sum = {0}, dot = {0};
    FOR_VECTORS(C, {
        vec y = (load_elems(x + c, n) - mean) * rstd;
        vec by = load_elems(grad + c, n); /* 0 in the lanes beyond n */
        vec g = by * load_floats(gamma + c, n);
        sum += g;
        dot += g * y;
        store_floats(grad_gamma + c, load_floats(grad_gamma + c, n) + by * y, n);
        store_floats(grad_beta + c, load_floats(grad_beta + c, n) + by, n);
    });
    float mean_g = sum_lanes(sum) / C, mean_dot = sum_lanes(dot) / C;
    FOR_VECTORS(C, {
        vec y = (load_elems(x + c, n) - mean) * rstd;
        vec g = load_elems(grad + c, n) * load_floats(gamma + c, n);
        store_elems(out + c, (g - mean_g - y * mean_dot) * rstd + load_elems(residual + c, n), n);
    });
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
        float *grad_gamma = total.rows + (size_t)k * 2 * C, *grad_beta = grad_gamma + C;
        int64_t end = T * (k + 1) / threads;
        for (int64_t t0 = T * k / threads; t0 < end; t0 += BLOCK) {
            for (int64_t t = t0; t < MIN(t0 + BLOCK, end); t++)
                layer_norm_backward_row(x + t * C, mean_and_rstd[t], mean_and_rstd[T + t], gamma,
                                        grad + t * C, residual + t * C, out + t * C, grad_gamma,
                                        grad_beta, C);
            flush_sums(&total, k);
        }
    }
    reduce_sums(&total, sums, threads);
    return 0;
}
