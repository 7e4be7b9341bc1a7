// What the two implementations share: block layouts (llama.cpp's ggml-common.h describes them) and
// the pairs of names behind each public function.
#ifndef OPPU_CKERNELS_INTERNAL_H
#define OPPU_CKERNELS_INTERNAL_H

#include <math.h>
#include <string.h>

#include "CKernels.h"

enum { CK_BLOCK = 32, CK_SUPER = 256, CK_TILE = 512, CK_TILE_ROWS = 4 };
enum {
  Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q5_0_BYTES = 22, Q5_1_BYTES = 24, Q8_0_BYTES = 34,
  Q4_K_BYTES = 144, Q5_K_BYTES = 176, Q6_K_BYTES = 210
};

// IEEE half to single by its bits, so that no compiler support library is needed: the exponent is
// moved by multiplying with 2^112, which also makes subnormal numbers right.
static inline float ck_half(const uint8_t *p) {
  uint16_t h;
  memcpy(&h, p, sizeof h);
  uint32_t bits = (uint32_t)(h & 0x7FFF) << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  value *= 0x1p112f;
  memcpy(&bits, &value, sizeof bits);
  if ((h & 0x7C00) == 0x7C00) bits = 0x7F800000u | (uint32_t)(h & 0x3FF) << 13;
  bits |= (uint32_t)(h & 0x8000) << 16;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline size_t ck_block_length(int32_t type) {
  switch (type) {
    case CK_Q4_0: case CK_Q4_1: case CK_Q5_0: case CK_Q5_1: case CK_Q8_0: return CK_BLOCK;
    case CK_Q4_K: case CK_Q5_K: case CK_Q6_K: return CK_SUPER;
    default: return 1;
  }
}

static inline size_t ck_bytes(int32_t type, size_t count) {
  switch (type) {
    case CK_F32: return count * 4;
    case CK_F16: case CK_BF16: return count * 2;
    case CK_Q4_0: return count / CK_BLOCK * Q4_0_BYTES;
    case CK_Q4_1: return count / CK_BLOCK * Q4_1_BYTES;
    case CK_Q5_0: return count / CK_BLOCK * Q5_0_BYTES;
    case CK_Q5_1: return count / CK_BLOCK * Q5_1_BYTES;
    case CK_Q8_0: return count / CK_BLOCK * Q8_0_BYTES;
    case CK_Q4_K: return count / CK_SUPER * Q4_K_BYTES;
    case CK_Q5_K: return count / CK_SUPER * Q5_K_BYTES;
    case CK_Q6_K: return count / CK_SUPER * Q6_K_BYTES;
    default: return 0;
  }
}

// The 6-bit scale and minimum number j (0 to 7) packed into the 12 bytes of a Q4_K or Q5_K
// super-block.
static inline void ck_q4_k_scale(const uint8_t *s, int j, uint8_t *scale, uint8_t *minimum) {
  if (j < 4) {
    *scale = s[j] & 63;
    *minimum = s[j + 4] & 63;
  } else {
    *scale = (uint8_t)((s[j + 4] & 0x0F) | ((s[j - 4] >> 6) << 4));
    *minimum = (uint8_t)((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
  }
}

#define CK_DECLARE(suffix)                                                                         \
  void ck_expand_##suffix(int32_t, const void *, float *, size_t);                                 \
  void ck_rows_times_##suffix(int32_t, const void *, size_t, size_t, size_t, const float *,        \
                              size_t, size_t, float *, size_t);                                    \
  float ck_dot_##suffix(const float *, const float *, size_t);                                     \
  void ck_axpy_##suffix(float, const float *, float *, size_t);                                    \
  size_t ck_argmax_##suffix(const float *, size_t);                                                \
  void ck_exp_##suffix(const float *, float *, size_t);                                            \
  float ck_softmax_##suffix(float *, size_t);                                                      \
  float ck_log_sum_exp_##suffix(const float *, size_t);                                            \
  float ck_rms_norm_##suffix(const float *, const float *, float *, size_t, float);                \
  void ck_rms_norm_backward_##suffix(const float *, const float *, const float *, float, float *,  \
                                     size_t);                                                      \
  void ck_rope_##suffix(float *, const float *, const float *, size_t, size_t, int32_t);

CK_DECLARE(scalar)
CK_DECLARE(vector)

#endif
