// Attention and low-rank products: the scalar twins, and the vector kernels for each instruction set.
#include "wide.h"

#include "internal.h"

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(name) JOIN(name, SUFFIX)

static void attend_scalar(size_t rows, const float *const *queries, float *const *outs,
                          const size_t *visible, const float *const *keys,
                          const float *const *values, size_t width, float scale, float *scores) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t i = 0; i < visible[r]; i++) {
      const float *strip = keys[i / CK_KV_BLOCK] + i % CK_KV_BLOCK / CK_KV_STRIP * CK_KV_STRIP * width;
      float sum = 0;
      for (size_t d = 0; d < width; d++) {
        sum += queries[r][d] * strip[d * CK_KV_STRIP + i % CK_KV_STRIP];
      }
      scores[i] = sum * scale;
    }
    ck_softmax_scalar(scores, visible[r]);
    for (size_t d = 0; d < width; d++) outs[r][d] = 0;
    for (size_t i = 0; i < visible[r]; i++) {
      const float *v = values[i / CK_KV_BLOCK] + i % CK_KV_BLOCK * width;
      for (size_t d = 0; d < width; d++) outs[r][d] += scores[i] * v[d];
    }
  }
}

static void low_rank_scalar(const float *x, size_t rows, size_t width, const float *a, size_t rank,
                            const float *b, size_t out, float scale, float *inner, float *y) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t k = 0; k < rank; k++) {
      float sum = 0;
      for (size_t i = 0; i < width; i++) sum += x[r * width + i] * a[k * width + i];
      inner[r * rank + k] = sum * scale;
    }
    for (size_t k = 0; k < rank; k++) {
      for (size_t j = 0; j < out; j++) y[r * out + j] += inner[r * rank + k] * b[k * out + j];
    }
  }
}

#if defined(__x86_64__)
#define SUFFIX avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define ROWS 4
#define STRIPS 2
#define PARTS 4
#include "wide_body.h"
#undef SUFFIX
#undef TARGET
#undef ROWS
#undef STRIPS
#undef PARTS
#define SUFFIX avx2
#define TARGET __attribute__((target("avx2,fma")))
#define ROWS 2
#define STRIPS 2
#define PARTS 2
#include "wide_body.h"
#else
#define SUFFIX neon
#define TARGET
#define ROWS 2
#define STRIPS 2
#define PARTS 2
#include "wide_body.h"
#endif

void ck_attend(
    int32_t level, size_t rows, const float *const *queries, float *const *outs,
    const size_t *visible, const float *const *keys, const float *const *values, size_t width,
    float scale, float *scores) {
#if defined(__x86_64__)
  if (width % 16 == 0 && level == CK_LEVEL_WIDE) {
    attend_avx512(rows, queries, outs, visible, keys, values, width, scale, scores);
    return;
  }
  if (width % 16 == 0 && level == CK_LEVEL_VECTOR) {
    attend_avx2(rows, queries, outs, visible, keys, values, width, scale, scores);
    return;
  }
#else
  if (width % 16 == 0 && level != CK_LEVEL_SCALAR) {
    attend_neon(rows, queries, outs, visible, keys, values, width, scale, scores);
    return;
  }
#endif
  attend_scalar(rows, queries, outs, visible, keys, values, width, scale, scores);
}

void ck_low_rank(
    int32_t level, const float *x, size_t rows, size_t width, const float *a, size_t rank,
    const float *b_transposed, size_t out, float scale, float *inner, float *y) {
#if defined(__x86_64__)
  if (level == CK_LEVEL_WIDE) {
    low_rank_avx512(x, rows, width, a, rank, b_transposed, out, scale, inner, y);
    return;
  }
  if (level == CK_LEVEL_VECTOR) {
    low_rank_avx2(x, rows, width, a, rank, b_transposed, out, scale, inner, y);
    return;
  }
#else
  if (level != CK_LEVEL_SCALAR) {
    low_rank_neon(x, rows, width, a, rank, b_transposed, out, scale, inner, y);
    return;
  }
#endif
  low_rank_scalar(x, rows, width, a, rank, b_transposed, out, scale, inner, y);
}

void ck_silu_mul(int32_t level, const float *gate, const float *up, float *out, size_t count) {
#if defined(__x86_64__)
  if (level == CK_LEVEL_WIDE) {
    silu_mul_avx512(gate, up, out, count);
    return;
  }
  if (level == CK_LEVEL_VECTOR) {
    silu_mul_avx2(gate, up, out, count);
    return;
  }
#else
  if (level != CK_LEVEL_SCALAR) {
    silu_mul_neon(gate, up, out, count);
    return;
  }
#endif
  ck_silu_mul_scalar(gate, up, out, count);
}
