// Attention for one instruction set and one format of keys and values, included by attend.c with
// ISA, FORMAT, TARGET, ELEMENT, its BITS and the numbers of rows, strips and columns of values that
// fill the registers.

typedef float NAME(v) __attribute__((vector_size(64)));
typedef float NAME(vu) __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t NAME(vi) __attribute__((vector_size(64)));
typedef BITS NAME(bits) __attribute__((vector_size(16 * sizeof(ELEMENT))));
typedef ELEMENT NAME(e) __attribute__((vector_size(16 * sizeof(ELEMENT)), aligned(2), may_alias));

#define V NAME(v)
#define VU NAME(vu)
#define VI NAME(vi)
#define INLINE TARGET static inline __attribute__((always_inline))
#define LOAD(p) ((V) * (const VU *)(p))
#define STORE(p, v) (*(VU *)(p) = (v))
// 16 numbers of keys or values, widened.
#define LOAD_WIDE(p) __builtin_convertvector(*(const NAME(e) *)(p), V)
// The 64 bytes of 16 or 32 elements are fetched once.
#define FETCH(p, number)                                                                           \
  if (sizeof(ELEMENT) == 4 || (number) % 2 == 0) __builtin_prefetch(p)

#include "exp_body.h"

// Scores of `rows` queries with `strips` strips of keys (both constants). What is at `ahead` comes
// next: blocks are too short for the processor to foresee the following one.
INLINE void NAME(score)(const size_t rows, const size_t strips, const float *const *queries,
                        const ELEMENT *keys, const ELEMENT *ahead, size_t width, float scale,
                        float *scores, size_t stride) {
  V sums[ROWS][STRIPS];
  for (size_t r = 0; r < rows; r++)
    for (size_t s = 0; s < strips; s++) sums[r][s] = (V){};
  for (size_t d = 0; d < width; d++) {
    V k[STRIPS];
    for (size_t s = 0; s < strips; s++) {
      k[s] = LOAD_WIDE(keys + (s * width + d) * CK_KV_STRIP);
      FETCH(ahead + (s * width + d) * CK_KV_STRIP, d);
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
                        const void *const *values, const ELEMENT *after, size_t length,
                        size_t width, size_t column, float *const *outs) {
  V sums[ROWS][PARTS];
  for (size_t r = 0; r < rows; r++)
    for (size_t c = 0; c < parts; c++) sums[r][c] = (V){};
  for (size_t start = 0; start < length; start += CK_KV_BLOCK) {
    const ELEMENT *v = (const ELEMENT *)values[start / CK_KV_BLOCK] + column;
    const size_t count = length - start < CK_KV_BLOCK ? length - start : CK_KV_BLOCK;
    const ELEMENT *ahead = start + CK_KV_BLOCK < length
                               ? (const ELEMENT *)values[start / CK_KV_BLOCK + 1] + column
                               : after + column;
    for (size_t j = 0; j < count; j++, v += width, ahead += width) {
      V value[PARTS];
      for (size_t c = 0; c < parts; c++) {
        value[c] = LOAD_WIDE(v + 16 * c);
        FETCH(ahead + 16 * c, c);
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
                       const size_t *visible, const void *const *keys, const void *const *values,
                       size_t length, size_t width, float scale, float *scores) {
  const size_t padded = (length + 15) / 16 * 16;
  for (size_t start = 0; start < padded; start += CK_KV_BLOCK) {
    const ELEMENT *k = keys[start / CK_KV_BLOCK];
    const size_t count = padded - start < CK_KV_BLOCK ? padded - start : CK_KV_BLOCK;
    const ELEMENT *ahead =
        start + CK_KV_BLOCK < padded ? keys[start / CK_KV_BLOCK + 1] : values[0];
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
  // In a key-value cache the next head's keys follow.
  const ELEMENT *after = (const ELEMENT *)keys[0] + CK_KV_BLOCK * width;
  for (; column + PARTS * 16 <= width; column += PARTS * 16)
    NAME(weigh)(rows, PARTS, scores, padded, values, after, length, width, column,
                        outs);
  for (; column < width; column += 16)
    NAME(weigh)(rows, 1, scores, padded, values, after, length, width, column,
                        outs);
}

TARGET static void NAME(attend)(size_t rows, const float *const *queries, float *const *outs,
                                const size_t *visible, const void *const *keys,
                                const void *const *values, size_t width, float scale,
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

// One head's key and value at position `inside` of a block.
TARGET static void NAME(put)(const float *key, const float *value, size_t width, size_t inside,
                             void *keys, void *values) {
  BITS *k = (BITS *)keys + inside / CK_KV_STRIP * CK_KV_STRIP * width + inside % CK_KV_STRIP;
  ELEMENT *v = (ELEMENT *)values + inside * width;
  for (size_t d = 0; d < width; d += 16) {
    V wide[2] = {LOAD(key + d), LOAD(value + d)};
    if (sizeof(ELEMENT) == 2) {
      for (int i = 0; i < 2; i++) {
        const VI size = (VI)wide[i] & 0x7FFFFFFF;
        const VI beyond = (size > CK_LARGEST_HALF_BITS) & (size < 0x7F800000);
        const VI most = ((VI)wide[i] & (int32_t)0x80000000) | CK_LARGEST_HALF_BITS;
        wide[i] = (V)((most & beyond) | ((VI)wide[i] & ~beyond));
      }
    }
    const NAME(bits) narrow = (NAME(bits))__builtin_convertvector(wide[0], NAME(e));
    for (size_t i = 0; i < 16; i++) k[(d + i) * CK_KV_STRIP] = narrow[i];
    *(NAME(e) *)(v + d) = __builtin_convertvector(wide[1], NAME(e));
  }
}

#undef INLINE
#undef LOAD
#undef STORE
#undef LOAD_WIDE
#undef FETCH
#undef V
#undef VU
#undef VI
