// Low-rank products and the gated activation: the scalar twins, and the vector kernels for each
// instruction set.
#include "wide.h"

#include "internal.h"

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(name) JOIN(name, SUFFIX)

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
#include "wide_body.h"
#undef SUFFIX
#undef TARGET
#undef ROWS
#define SUFFIX avx2
#define TARGET __attribute__((target("avx2,fma")))
#define ROWS 2
#include "wide_body.h"
#else
#define SUFFIX neon
#define TARGET
#define ROWS 2
#include "wide_body.h"
#endif

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
