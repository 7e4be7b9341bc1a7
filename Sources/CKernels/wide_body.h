// The kernels of wide.h for one instruction set, included by wide.c with SUFFIX, TARGET and the numbers of
// rows, strips and columns of values that fill the registers.

typedef float NAME(v) __attribute__((vector_size(64)));
typedef float NAME(vu) __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t NAME(vi) __attribute__((vector_size(64)));

#define V NAME(v)
#define VU NAME(vu)
#define VI NAME(vi)
#define INLINE TARGET static inline __attribute__((always_inline))
#define LOAD(p) ((V) * (const VU *)(p))
#define STORE(p, v) (*(VU *)(p) = (v))

// e^x as exp8 in vector.c computes it.
INLINE void NAME(exp)(V *in_out) {
  V x = *in_out;
  const VI kept = x > -87.3f;
  x = __builtin_elementwise_min(x, (V){} + 88.3f);
  x = __builtin_elementwise_max(x, (V){} - 87.3f);
  const V shifted = x * 1.44269504088896341f + 12582912.0f;
  const V n = shifted - 12582912.0f;
  V r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = (V){} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const V result = p * (r * r) + r + 1.0f;
  const VI exponent = (__builtin_convertvector(n, VI) + 127) << 23;
  *in_out = (V)((VI)(result * (V)exponent) & kept);
}

// Scores of `rows` queries with `strips` strips of keys (both constants). What is at `ahead` comes
// next: blocks are too short for the processor to foresee the following one.
INLINE void NAME(score)(const size_t rows, const size_t strips, const float *const *queries,
                        const float *keys, const float *ahead, size_t width, float scale,
                        float *scores, size_t stride) {
  V sums[ROWS][STRIPS];
  for (size_t r = 0; r < rows; r++)
    for (size_t s = 0; s < strips; s++) sums[r][s] = (V){};
  for (size_t d = 0; d < width; d++) {
    V k[STRIPS];
    for (size_t s = 0; s < strips; s++) {
      k[s] = LOAD(keys + (s * width + d) * CK_KV_STRIP);
      __builtin_prefetch(ahead + (s * width + d) * CK_KV_STRIP);
    }
    for (size_t r = 0; r < rows; r++)
      for (size_t s = 0; s < strips; s++) sums[r][s] = k[s] * queries[r][d] + sums[r][s];
  }
  for (size_t r = 0; r < rows; r++)
    for (size_t s = 0; s < strips; s++)
      STORE(scores + r * stride + s * CK_KV_STRIP, sums[r][s] * scale);
}

// In place over `padded` scores, those from `visible` on become 0.
INLINE void NAME(normalize)(float *scores, size_t visible, size_t padded) {
  for (size_t i = visible; i < padded; i++) scores[i] = -INFINITY;
  V tops = LOAD(scores);
  for (size_t i = 16; i < padded; i += 16) tops = __builtin_elementwise_max(tops, LOAD(scores + i));
  float top = tops[0];
  for (int lane = 1; lane < 16; lane++) top = tops[lane] > top ? tops[lane] : top;
  V sums = (V){};
  for (size_t i = 0; i < padded; i += 16) {
    V e = LOAD(scores + i) - top;
    NAME(exp)(&e);
    STORE(scores + i, e);
    sums += e;
  }
  float sum = 0;
  for (int lane = 0; lane < 16; lane++) sum += sums[lane];
  const float factor = 1.0f / sum;
  for (size_t i = 0; i < padded; i += 16) STORE(scores + i, LOAD(scores + i) * factor);
}

// `parts` registers (a constant) of the outputs of `rows` rows (a constant), from `column` on.
INLINE void NAME(weigh)(const size_t rows, const size_t parts, const float *scores, size_t stride,
                        const float *const *values, size_t length, size_t width, size_t column,
                        float *const *outs) {
  V sums[ROWS][PARTS];
  for (size_t r = 0; r < rows; r++)
    for (size_t c = 0; c < parts; c++) sums[r][c] = (V){};
  for (size_t start = 0; start < length; start += CK_KV_BLOCK) {
    const float *v = values[start / CK_KV_BLOCK] + column;
    const size_t count = length - start < CK_KV_BLOCK ? length - start : CK_KV_BLOCK;
    const float *ahead =
        start + CK_KV_BLOCK < length ? values[start / CK_KV_BLOCK + 1] + column : v;
    for (size_t j = 0; j < count; j++, v += width, ahead += width) {
      V value[PARTS];
      for (size_t c = 0; c < parts; c++) {
        value[c] = LOAD(v + 16 * c);
        __builtin_prefetch(ahead + 16 * c);
      }
      for (size_t r = 0; r < rows; r++) {
        const float p = scores[r * stride + start + j];
        for (size_t c = 0; c < parts; c++) sums[r][c] = value[c] * p + sums[r][c];
      }
    }
  }
  for (size_t r = 0; r < rows; r++)
    for (size_t c = 0; c < parts; c++) STORE(outs[r] + column + 16 * c, sums[r][c]);
}

INLINE void NAME(tile)(const size_t rows, const float *const *queries, float *const *outs,
                       const size_t *visible, const float *const *keys,
                       const float *const *values, size_t length, size_t width, float scale,
                       float *scores) {
  const size_t padded = (length + 15) / 16 * 16;
  for (size_t start = 0; start < padded; start += CK_KV_BLOCK) {
    const float *k = keys[start / CK_KV_BLOCK];
    const size_t count = padded - start < CK_KV_BLOCK ? padded - start : CK_KV_BLOCK;
    const float *ahead = start + CK_KV_BLOCK < padded ? keys[start / CK_KV_BLOCK + 1] : values[0];
    size_t j = 0;
    for (; j + STRIPS * 16 <= count; j += STRIPS * 16)
      NAME(score)(rows, STRIPS, queries, k + j * width, ahead + j * width, width, scale,
                  scores + start + j, padded);
    for (; j < count; j += 16)
      NAME(score)(rows, 1, queries, k + j * width, ahead + j * width, width, scale,
                  scores + start + j, padded);
  }
  for (size_t r = 0; r < rows; r++) NAME(normalize)(scores + r * padded, visible[r], padded);
  size_t column = 0;
  for (; column + PARTS * 16 <= width; column += PARTS * 16)
    NAME(weigh)(rows, PARTS, scores, padded, values, length, width, column, outs);
  for (; column < width; column += 16)
    NAME(weigh)(rows, 1, scores, padded, values, length, width, column, outs);
}

TARGET static void NAME(attend)(size_t rows, const float *const *queries, float *const *outs,
                                const size_t *visible, const float *const *keys,
                                const float *const *values, size_t width, float scale,
                                float *scores) {
  for (size_t r = 0; r < rows; r += ROWS) {
    const size_t count = rows - r < ROWS ? rows - r : ROWS;
    size_t length = 0;
    for (size_t i = 0; i < count; i++) length = visible[r + i] > length ? visible[r + i] : length;
#define TILE(number)                                                                               \
  NAME(tile)(number, queries + r, outs + r, visible + r, keys, values, length, width, scale, scores)
    switch (count) {
      case 1: TILE(1); break;
#if ROWS > 2
      case 2: TILE(2); break;
      case 3: TILE(3); break;
#endif
      default: TILE(ROWS); break;
    }
#undef TILE
  }
}

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
  ck_silu_mul_scalar(gate + i, up + i, out + i, count - i);
}

#undef INLINE
#undef LOAD
#undef STORE
#undef V
#undef VU
#undef VI
