/* Sum of maps of several resolutions. See common.h. */

#include "common.h"

/* A map (B, H, W, C), and where along x each pixel of the larger map takes its two values. */
typedef struct {
    const elem *map;
    int64_t H, W;
    int64_t *left, *right; /* (W of the larger map), offsets of two pixels */
    float *weight;         /* of the right pixel */
} Source;

/* Position of pixel i of `to` pixels along an axis of `from` pixels, whose outer edges coincide. */
static void locate(int64_t i, int64_t from, int64_t to, int64_t *left, int64_t *right,
                   float *weight) {
    float position = ((float)from / (float)to) * (i + 0.5f) - 0.5f;
    if (position < 0) position = 0;
    *left = MIN((int64_t)position, from - 1);
    *right = MIN(*left + 1, from - 1);
    *weight = position - *left;
}

static int new_source(Source *s, const elem *map, int64_t H, int64_t W, int64_t width, int64_t C) {
    *s = (Source){map, H, W, malloc(2 * width * sizeof(int64_t)), NULL, alloc_floats(width)};
    if (!s->left || !s->weight) return 0;
    s->right = s->left + width;
    for (int64_t i = 0; i < width; i++) {
        locate(i, W, width, s->left + i, s->right + i, s->weight + i);
        s->left[i] *= C, s->right[i] *= C;
    }
    return 1;
}

/* line = row y of H rows, interpolated along y. Lines have room for a whole vector at their end. */
static void vertical(const Source *s, int64_t b, int64_t y, int64_t H, int64_t C, float *line) {
    int64_t top, bottom;
    float weight;
    locate(y, s->H, H, &top, &bottom, &weight);
    const elem *first = s->map + (b * s->H + top) * s->W * C;
    const elem *second = s->map + (b * s->H + bottom) * s->W * C;
    FOR_VECTORS(s->W * C, {
        vec x = load_elems(first + c, n);
        STORE(line + c, x + (load_elems(second + c, n) - x) * weight);
    });
}

/* total (W, C) = the sum of `count` lines, interpolated along x. A pixel's last vector reaches into
 * the next pixel, which overwrites it. */
INLINE void horizontal(int count, const Source *sources, const float *const *lines, float *total,
                       int64_t W, int64_t C) {
    for (int64_t x = 0; x < W; x++) {
        for (int64_t c = 0; c < C; c += V) {
            vec sum = {0};
            for (int i = 0; i < count; i++) {
                vec left = LOAD(lines[i] + sources[i].left[x] + c);
                vec right = LOAD(lines[i] + sources[i].right[x] + c);
                sum += left + (right - left) * sources[i].weight[x];
            }
            STORE(total + x * C + c, sum);
        }
    }
}

/* out = x + the other maps, each interpolated bilinearly to its size; relu: max(out, 0).
 * x, out: (B, H, W, C).
 * map_i: (B, Hi, Wi, C) or NULL. */
int add_upsampled(const elem *x, const elem *map_1, const elem *map_2, const elem *map_3, elem *out,
                  int64_t B, int64_t H, int64_t W, int64_t C, int64_t H1, int64_t W1, int64_t H2,
                  int64_t W2, int64_t H3, int64_t W3, int64_t relu, int threads) {
    const elem *maps[3] = {map_1, map_2, map_3};
    int64_t heights[3] = {H1, H2, H3}, widths[3] = {W1, W2, W3}, longest = W, rows = B * H;
    Source sources[3] = {{0}};
    int count = 0, failed = 0;
    for (int i = 0; i < 3; i++) {
        if (!maps[i]) continue;
        failed |= !new_source(sources + count++, maps[i], heights[i], widths[i], W, C);
        if (widths[i] > longest) longest = widths[i];
    }
    size_t line = ROUND_UP(longest * C) + V;
    float *space = alloc_floats(4 * line * threads);
    failed |= !space;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int k = 0; k < threads; k++) {
        if (failed) continue;
        float *total = space + 4 * line * k;
        const float *lines[3] = {total + line, total + 2 * line, total + 3 * line};
        for (int64_t r = rows * k / threads; r < rows * (k + 1) / threads; r++) {
            for (int i = 0; i < count; i++)
                vertical(sources + i, r / H, r % H, H, C, (float *)lines[i]);
            /* With a constant count the loop over the lines is unrolled. */
            if (count == 1)
                horizontal(1, sources, lines, total, W, C);
            else if (count == 2)
                horizontal(2, sources, lines, total, W, C);
            else
                horizontal(3, sources, lines, total, W, C);
            const elem *from = x + r * W * C;
            elem *to = out + r * W * C;
            FOR_VECTORS(W * C, {
                vec y = load_elems(from + c, n) + LOAD(total + c);
                store_elems(to + c, relu ? where_negative(y, (vec){0}, y) : y, n);
            });
        }
    }
    for (int i = 0; i < count; i++) free(sources[i].left), free(sources[i].weight);
    free(space);
    return failed;
}
