// Attention to a key-value cache: the scalar twin, and the vector kernels for each instruction set and
// format of keys and values.
#include "wide.h"

#include "internal.h"

// 65504, the largest number that a half holds.
enum { CK_LARGEST_HALF_BITS = 0x477FE000 };

// The nearest half (ties to even). Finite numbers stay finite.
static uint16_t nearest_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
  if (size > 0x7F800000) return (uint16_t)(sign | 0x7E00);
  if (size == 0x7F800000) return (uint16_t)(sign | 0x7C00);
  if (size > CK_LARGEST_HALF_BITS) return (uint16_t)(sign | 0x7BFF);
  if (size >= 0x38800000) {
    return (uint16_t)(sign | (size + 0xFFF + (size >> 13 & 1) - 0x38000000) >> 13);
  }
  return (uint16_t)(sign | (uint32_t)rintf(fabsf(x) * 0x1p24f));  // a multiple of 2^-24
}

static inline float element(int32_t format, const void *p, size_t index) {
  return format == CK_F16 ? ck_half((const uint8_t *)p + 2 * index) : ((const float *)p)[index];
}

static inline void put_element(int32_t format, void *p, size_t index, float x) {
  if (format == CK_F16) {
    ((uint16_t *)p)[index] = nearest_half(x);
  } else {
    ((float *)p)[index] = x;
  }
}

static size_t key_place(size_t inside, size_t width) {
  return inside / CK_KV_STRIP * CK_KV_STRIP * width + inside % CK_KV_STRIP;
}

static void attend_scalar(int32_t format, size_t rows, const float *const *queries,
                          float *const *outs, const size_t *visible, const void *const *keys,
                          const void *const *values, size_t width, float scale, float *scores) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t i = 0; i < visible[r]; i++) {
      const void *block = keys[i / CK_KV_BLOCK];
      const size_t place = key_place(i % CK_KV_BLOCK, width);
      float sum = 0;
      for (size_t d = 0; d < width; d++) {
        sum += queries[r][d] * element(format, block, place + d * CK_KV_STRIP);
      }
      scores[i] = sum * scale;
    }
    ck_softmax_scalar(scores, visible[r]);
    for (size_t d = 0; d < width; d++) outs[r][d] = 0;
    for (size_t i = 0; i < visible[r]; i++) {
      const void *block = values[i / CK_KV_BLOCK];
      const size_t place = i % CK_KV_BLOCK * width;
      for (size_t d = 0; d < width; d++) outs[r][d] += scores[i] * element(format, block, place + d);
    }
  }
}

static void put_scalar(int32_t format, const float *key, const float *value, size_t width,
                       size_t inside, void *keys, void *values) {
  for (size_t d = 0; d < width; d++) {
    put_element(format, keys, key_place(inside, width) + d * CK_KV_STRIP, key[d]);
    put_element(format, values, inside * width + d, value[d]);
  }
}

#define JOIN3(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN3(a, b, c)
#define NAME(name) JOIN(name, ISA, FORMAT)

#if defined(__x86_64__)
#define ISA avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define ROWS 4
#define STRIPS 2
#define PARTS 4
#define FORMAT f32
#define ELEMENT float
#define BITS uint32_t
#include "attend_body.h"
#undef FORMAT
#undef ELEMENT
#undef BITS
#define FORMAT f16
#define ELEMENT _Float16
#define BITS uint16_t
#include "attend_body.h"
#undef FORMAT
#undef ELEMENT
#undef BITS
#undef ISA
#undef TARGET
#undef ROWS
#undef PARTS
#define ISA avx2
#define TARGET __attribute__((target("avx2,fma,f16c")))
#else
#define ISA neon
#define TARGET
#define STRIPS 2
#endif
#define ROWS 2
#define PARTS 2
#define FORMAT f32
#define ELEMENT float
#define BITS uint32_t
#include "attend_body.h"
#undef FORMAT
#undef ELEMENT
#undef BITS
#define FORMAT f16
#define ELEMENT _Float16
#define BITS uint16_t
#include "attend_body.h"

// Calls the kernel of a level and format, or its scalar twin.
#if defined(__x86_64__)
#define CHOOSE(name, ...)                                                                          \
  if (width % 16 == 0 && level == CK_LEVEL_WIDE) {                                                 \
    format == CK_F16 ? name##_avx512_f16(__VA_ARGS__) : name##_avx512_f32(__VA_ARGS__);            \
  } else if (width % 16 == 0 && level == CK_LEVEL_VECTOR) {                                        \
    format == CK_F16 ? name##_avx2_f16(__VA_ARGS__) : name##_avx2_f32(__VA_ARGS__);                \
  } else {                                                                                         \
    name##_scalar(format, __VA_ARGS__);                                                            \
  }
#else
#define CHOOSE(name, ...)                                                                          \
  if (width % 16 == 0 && level != CK_LEVEL_SCALAR) {                                               \
    format == CK_F16 ? name##_neon_f16(__VA_ARGS__) : name##_neon_f32(__VA_ARGS__);                \
  } else {                                                                                         \
    name##_scalar(format, __VA_ARGS__);                                                            \
  }
#endif

void ck_attend(
    int32_t level, int32_t format, size_t rows, const float *const *queries, float *const *outs,
    const size_t *visible, const void *const *keys, const void *const *values, size_t width,
    float scale, float *scores) {
  CHOOSE(attend, rows, queries, outs, visible, keys, values, width, scale, scores)
}

void ck_put_position(
    int32_t level, int32_t format, const float *key, const float *value, size_t width,
    size_t inside, void *keys, void *values) {
  CHOOSE(put, key, value, width, inside, keys, values)
}
