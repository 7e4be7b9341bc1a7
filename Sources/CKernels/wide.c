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

static void silu_mul_scalar(const float *gate, const float *up, float *out, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void silu_mul_backward_scalar(const float *gate, const float *up, const float *dout,
                                     float *dgate, float *dup, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const float g = gate[i], u = up[i], d = dout[i], s = 1.0f / (1.0f + expf(-g));
    dup[i] = d * g * s;
    dgate[i] = d * u * s * (1.0f + g * (1.0f - s));
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

// Calls the kernel of a level, or its scalar twin.
#if defined(__x86_64__)
#define CHOOSE(name, ...)                                                                          \
  switch (level) {                                                                                 \
    case CK_LEVEL_WIDE: name##_avx512(__VA_ARGS__); break;                                         \
    case CK_LEVEL_VECTOR: name##_avx2(__VA_ARGS__); break;                                         \
    default: name##_scalar(__VA_ARGS__); break;                                                    \
  }
#else
#define CHOOSE(name, ...)                                                                          \
  level != CK_LEVEL_SCALAR ? name##_neon(__VA_ARGS__) : name##_scalar(__VA_ARGS__);
#endif

void ck_low_rank(
    int32_t level, const float *x, size_t rows, size_t width, const float *a, size_t rank,
    const float *b_transposed, size_t out, float scale, float *inner, float *y) {
  CHOOSE(low_rank, x, rows, width, a, rank, b_transposed, out, scale, inner, y)
}

void ck_silu_mul(int32_t level, const float *gate, const float *up, float *out, size_t count) {
  CHOOSE(silu_mul, gate, up, out, count)
}

void ck_silu_mul_backward(
    int32_t level, const float *gate, const float *up, const float *dout, float *dgate, float *dup,
    size_t count) {
  CHOOSE(silu_mul_backward, gate, up, dout, dgate, dup, count)
}
