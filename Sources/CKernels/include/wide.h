// Kernels over several rows at a time: attention to a key-value cache, and low-rank products.
// A row's result does not depend on the other rows.
#ifndef OPPU_CKERNELS_WIDE_H
#define OPPU_CKERNELS_WIDE_H

#include <stddef.h>
#include <stdint.h>

enum {
  CK_KV_BLOCK = 32,  // positions in a block of keys or values
  CK_KV_STRIP = 16    // positions whose keys lie side by side
};

// Row r: outs[r] = softmax(scale * queries[r] . keys) values over the positions below visible[r].
// `width` numbers each. keys[b] and values[b] hold positions 32 b ... in `format`, CK_F32 or CK_F16:
// the values one position after the other, the keys in strips of 16 positions, [width x 16] each, so
// that a register holds one number of 16 keys. Keys from visible[r] on may be anything; values of
// positions below the largest of `visible` must be numbers. `scores` has room for rows * the largest
// of `visible` rounded up to 16.
void ck_attend(
    int32_t level, int32_t format, size_t rows, const float *const *queries, float *const *outs,
    const size_t *visible, const void *const *keys, const void *const *values, size_t width,
    float scale, float *scores);

// Puts one head's key and value [width] at position `inside` (0 to 31) of a block of keys and one of
// values. As halves they are rounded to the nearest; finite numbers stay finite.
void ck_put_position(
    int32_t level, int32_t format, const float *key, const float *value, size_t width,
    size_t inside, void *keys, void *values);

// y[r] += scale * B (A x[r]) for `rows` rows: A [rank x width], B transposed [rank x out]; x and y
// have rows `width` and `out` numbers apart. `inner` has room for rows * rank.
void ck_low_rank(
    int32_t level, const float *x, size_t rows, size_t width, const float *a, size_t rank,
    const float *b_transposed, size_t out, float scale, float *inner, float *y);

#endif
