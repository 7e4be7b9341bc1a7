// Low-rank products and the gated activation for one instruction set, included by wide.c with SUFFIX,
// TARGET and the number of rows that fills the registers.

typedef float NAME(v) __attribute__((vector_size(64)));
typedef float NAME(vu) __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t NAME(vi) __attribute__((vector_size(64)));

#define V NAME(v)
#define VU NAME(vu)
#define VI NAME(vi)
#define INLINE TARGET static inline __attribute__((always_inline))
#define LOAD(p) ((V) * (const VU *)(p))
#define STORE(p, v) (*(VU *)(p) = (v))

#include "exp_body.h"

// inner[r * rank + k] = x[r] . a[k] for constants of rows and factors.
INLINE void NAME(dots)(const size_t rows, const size_t factors, const float *x, const float *a,
                       size_t width, size_t rank, float *inner) {
  V sums[ROWS][ROWS];
  for (size_t r = 0; r < rows; r++)
    for (size_t k = 0; k < factors; k++) sums[r][k] = (V){};
  size_t i = 0;
  for (; i + 16 <= width; i += 16) {
    V factor[ROWS];
    for (size_t k = 0; k < factors; k++) factor[k] = LOAD(a + k * width + i);
    for (size_t r = 0; r < rows; r++) {
      const V value = LOAD(x + r * width + i);
      for (size_t k = 0; k < factors; k++) sums[r][k] = value * factor[k] + sums[r][k];
    }
  }
  for (size_t r = 0; r < rows; r++) {
    for (size_t k = 0; k < factors; k++) {
      float sum = 0;
      for (int lane = 0; lane < 16; lane++) sum += sums[r][k][lane];
      for (size_t j = i; j < width; j++) sum += x[r * width + j] * a[k * width + j];
      inner[r * rank + k] = sum;
    }
  }
}

TARGET static void NAME(low_rank)(const float *x, size_t rows, size_t width, const float *a,
                                  size_t rank, const float *b, size_t out, float scale,
                                  float *inner, float *y) {
  // With few rows the factors come from memory, and in runs too short for the processor to foresee.
  if (rows < ROWS) {
    for (size_t i = 0; i < rank * width; i += 16) __builtin_prefetch(a + i);
    for (size_t i = 0; i < rank * out; i += 16) __builtin_prefetch(b + i);
  }
  for (size_t r = 0; r < rows;) {
    const size_t height = rows - r >= ROWS ? ROWS : 1;
    for (size_t k = 0; k < rank;) {
      const size_t factors = rank - k >= ROWS ? ROWS : 1;
      float *to = inner + r * rank + k;
      if (height > 1 && factors > 1) {
        NAME(dots)(ROWS, ROWS, x + r * width, a + k * width, width, rank, to);
      } else if (height > 1) {
        NAME(dots)(ROWS, 1, x + r * width, a + k * width, width, rank, to);
      } else if (factors > 1) {
        NAME(dots)(1, ROWS, x + r * width, a + k * width, width, rank, to);
      } else {
        NAME(dots)(1, 1, x + r * width, a + k * width, width, rank, to);
      }
      k += factors;
    }
    r += height;
  }
  for (size_t r = 0; r < rows; r++) {
    for (size_t k = 0; k < rank; k++) inner[r * rank + k] *= scale;
  }
  for (size_t r = 0; r < rows; r++) {
    const float *t = inner + r * rank;
    float *line = y + r * out;
    size_t j = 0;
    for (; j + 32 <= out; j += 32) {
      V first = LOAD(line + j), second = LOAD(line + j + 16);
      for (size_t k = 0; k < rank; k++) {
        first = LOAD(b + k * out + j) * t[k] + first;
        second = LOAD(b + k * out + j + 16) * t[k] + second;
      }
      STORE(line + j, first);
      STORE(line + j + 16, second);
    }
    for (; j < out; j++) {
      for (size_t k = 0; k < rank; k++) line[j] += b[k * out + j] * t[k];
    }
  }
}

TARGET static void NAME(silu_mul)(const float *gate, const float *up, float *out, size_t count) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const V g = LOAD(gate + i);
    V e = -g;
    NAME(exp)(&e);
    STORE(out + i, g / (e + 1.0f) * LOAD(up + i));
  }
  silu_mul_scalar(gate + i, up + i, out + i, count - i);
}

TARGET static void NAME(silu_mul_backward)(const float *gate, const float *up, const float *dout,
                                           float *dgate, float *dup, size_t count) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const V g = LOAD(gate + i), u = LOAD(up + i), d = LOAD(dout + i);
    V e = -g;
    NAME(exp)(&e);
    const V s = 1.0f / (e + 1.0f);
    STORE(dup + i, d * g * s);
    STORE(dgate + i, d * u * s * (g * (1.0f - s) + 1.0f));
  }
  silu_mul_backward_scalar(gate + i, up + i, dout + i, dgate + i, dup + i, count - i);
}

#undef INLINE
#undef LOAD
#undef STORE
#undef V
#undef VU
#undef VI
