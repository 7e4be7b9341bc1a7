// Causal attention of some query rows to the keys and values of one key-value head.
#ifndef OPPU_CKERNELS_ATTENTION_H
#define OPPU_CKERNELS_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

enum {
  CK_KV_BLOCK = 128,  // positions in a block of keys or values
  CK_KV_STRIP = 16    // positions whose keys lie side by side
};

// Row r: outs[r] = softmax(scale * queries[r] . keys) values over the positions below visible[r].
// `width` numbers each. keys[b] and values[b] hold positions 128 b ...: the values one position after
// the other, the keys in strips of 16 positions, [width x 16] each, so that a register holds one
// number of 16 keys. Keys from visible[r] on may be anything; values of positions below the largest
// of `visible` must be numbers. `scores` has room for rows * the largest of `visible` rounded up
// to 16. A row's result does not depend on the other rows.
void ck_attend(
    int32_t level, size_t rows, const float *const *queries, float *const *outs,
    const size_t *visible, const float *const *keys, const float *const *values, size_t width,
    float scale, float *scores);

#endif
