// The vector kernels, written once in clang's vector extensions, eight numbers wide: AVX2 with FMA
// and F16C on x86-64 (chosen at run time), pairs of NEON registers on ARM64.
#include "internal.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#endif

typedef float v8 __attribute__((vector_size(32)));
typedef float v8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8v __attribute__((vector_size(32)));
typedef uint32_t u8v __attribute__((vector_size(32)));
typedef uint8_t b8 __attribute__((vector_size(8)));
typedef int8_t s8 __attribute__((vector_size(8)));
typedef uint8_t b16 __attribute__((vector_size(16)));
typedef uint16_t w8 __attribute__((vector_size(16)));
typedef _Float16 h8 __attribute__((vector_size(16)));

#define LOAD(p) ((v8) * (const v8u *)(p))
#define STORE(p, v) (*(v8u *)(p) = (v))
#define ALL(s) ((v8){(s), (s), (s), (s), (s), (s), (s), (s)})
#define LOW8(v) __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7)
#define HIGH8(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)
#define FLOATS(v) __builtin_convertvector(v, v8)

static inline float total(v8 v) {
  return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

static inline b16 bytes16(const uint8_t *p) {
  b16 v;
  memcpy(&v, p, 16);
  return v;
}

// In hardware (F16C or NEON), unlike the scalar twin.
static inline float half1(const uint8_t *p) {
  _Float16 h;
  memcpy(&h, p, sizeof h);
  return (float)h;
}

static inline v8 signed8(const uint8_t *p) {
  s8 v;
  memcpy(&v, p, 8);
  return FLOATS(v);
}

static inline v8 halves8(const uint8_t *p) {
  h8 v;
  memcpy(&v, p, 16);
  return FLOATS(v);
}

static inline v8 brains8(const uint8_t *p) {
  w8 v;
  memcpy(&v, p, 16);
  return (v8)(__builtin_convertvector(v, u8v) << 16);
}

// e^x with a relative error of about 2e-7: x = n ln 2 + r, a polynomial in r of degree 6 (the
// coefficients are Cephes' expf), and the exponent n put in as bits. Below -87.3 the result is 0.
static inline v8 exp8(v8 x) {
  const v8 magic = ALL(12582912.0f);
  i8v kept = x > ALL(-87.3f);
  x = __builtin_elementwise_min(x, ALL(88.3f));
  x = __builtin_elementwise_max(x, ALL(-87.3f));
  v8 shifted = x * 1.44269504088896341f + magic;
  v8 n = shifted - magic;
  v8 r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  v8 p = ALL(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  v8 result = p * (r * r) + r + 1.0f;
  i8v exponent = (__builtin_convertvector(n, i8v) + 127) << 23;
  return (v8)((i8v)(result * (v8)exponent) & kept);
}

static void expand_q4_k(const uint8_t *p, float *out) {
  float d = half1(p), dmin = half1(p + 2);
  const uint8_t *q = p + 16;
  for (int j = 0; j < 8; j += 2, q += 32, out += 64) {
    uint8_t s1, m1, s2, m2;
    ck_q4_k_scale(p + 4, j, &s1, &m1);
    ck_q4_k_scale(p + 4, j + 1, &s2, &m2);
    v8 scale1 = ALL(d * s1), min1 = ALL(dmin * m1), scale2 = ALL(d * s2), min2 = ALL(dmin * m2);
    for (int i = 0; i < 32; i += 16) {
      b16 v = bytes16(q + i), low = v & 15, high = v >> 4;
      STORE(out + i, FLOATS(LOW8(low)) * scale1 - min1);
      STORE(out + i + 8, FLOATS(HIGH8(low)) * scale1 - min1);
      STORE(out + i + 32, FLOATS(LOW8(high)) * scale2 - min2);
      STORE(out + i + 40, FLOATS(HIGH8(high)) * scale2 - min2);
    }
  }
}

static void expand_q6_k(const uint8_t *p, float *out) {
  const uint8_t *ql = p, *qh = p + 128;
  const int8_t *scales = (const int8_t *)(p + 192);
  float d = half1(p + 208);
  for (int half = 0; half < 2; half++, out += 128, ql += 64, qh += 32, scales += 8) {
    for (int i = 0; i < 32; i += 16) {
      b16 a = bytes16(ql + i), b = bytes16(ql + i + 32), h = bytes16(qh + i);
      b16 parts[4] = {
          (a & 15) | ((h & 3) << 4), (b & 15) | (((h >> 2) & 3) << 4),
          (a >> 4) | (((h >> 4) & 3) << 4), (b >> 4) | ((h >> 6) << 4)};
      for (int k = 0; k < 4; k++) {
        v8 scale = ALL(d * scales[i / 16 + 2 * k]);
        STORE(out + i + 32 * k, (FLOATS(LOW8(parts[k])) - 32.0f) * scale);
        STORE(out + i + 32 * k + 8, (FLOATS(HIGH8(parts[k])) - 32.0f) * scale);
      }
    }
  }
}

void ck_expand_vector(int32_t type, const void *source, float *out, size_t count) {
  const uint8_t *p = source;
  switch (type) {
    case CK_F16: {
      size_t i = 0;
      for (; i + 8 <= count; i += 8) STORE(out + i, halves8(p + 2 * i));
      ck_expand_scalar(type, p + 2 * i, out + i, count - i);
      break;
    }
    case CK_BF16: {
      size_t i = 0;
      for (; i + 8 <= count; i += 8) STORE(out + i, brains8(p + 2 * i));
      ck_expand_scalar(type, p + 2 * i, out + i, count - i);
      break;
    }
    case CK_Q4_0:
    case CK_Q4_1: {
      size_t head = type == CK_Q4_0 ? 2 : 4;
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += head + 16, out += CK_BLOCK) {
        float d = half1(p);
        v8 scale = ALL(d), shift = ALL(type == CK_Q4_0 ? -8.0f * d : half1(p + 2));
        b16 v = bytes16(p + head), low = v & 15, high = v >> 4;
        STORE(out, FLOATS(LOW8(low)) * scale + shift);
        STORE(out + 8, FLOATS(HIGH8(low)) * scale + shift);
        STORE(out + 16, FLOATS(LOW8(high)) * scale + shift);
        STORE(out + 24, FLOATS(HIGH8(high)) * scale + shift);
      }
      break;
    }
    case CK_Q8_0:
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += Q8_0_BYTES, out += CK_BLOCK) {
        v8 scale = ALL(half1(p));
        for (int i = 0; i < 32; i += 8) STORE(out + i, signed8(p + 2 + i) * scale);
      }
      break;
    case CK_Q4_K:
      for (size_t b = 0; b < count / CK_SUPER; b++) expand_q4_k(p + b * Q4_K_BYTES, out + b * 256);
      break;
    case CK_Q6_K:
      for (size_t b = 0; b < count / CK_SUPER; b++) expand_q6_k(p + b * Q6_K_BYTES, out + b * 256);
      break;
    default: ck_expand_scalar(type, source, out, count);
  }
}

// One row of 4-bit blocks times one vector, without writing the weights out. `head` is the length of
// the block's scale (and, for Q4_1, minimum); x_sums[b] is the sum of x over block b.
static inline float dot_q4(
    const uint8_t *p, size_t blocks, size_t head, const float *x, const float *x_sums) {
  v8 sum = ALL(0.0f);
  float shifts = 0;
  for (size_t b = 0; b < blocks; b++, p += head + 16, x += CK_BLOCK) {
    float d = half1(p);
    shifts += (head == 2 ? -8.0f * d : half1(p + 2)) * x_sums[b];
    b16 v = bytes16(p + head), low = v & 15, high = v >> 4;
    v8 part = FLOATS(LOW8(low)) * LOAD(x);
    v8 other = FLOATS(HIGH8(low)) * LOAD(x + 8);
    part = FLOATS(LOW8(high)) * LOAD(x + 16) + part;
    other = FLOATS(HIGH8(high)) * LOAD(x + 24) + other;
    sum = (part + other) * d + sum;
  }
  return total(sum) + shifts;
}

static inline float dot_q8(const uint8_t *p, size_t blocks, const float *x) {
  v8 sum = ALL(0.0f);
  for (size_t b = 0; b < blocks; b++, p += Q8_0_BYTES, x += CK_BLOCK) {
    v8 part = signed8(p + 2) * LOAD(x);
    v8 other = signed8(p + 10) * LOAD(x + 8);
    part = signed8(p + 18) * LOAD(x + 16) + part;
    other = signed8(p + 26) * LOAD(x + 24) + other;
    sum = (part + other) * half1(p) + sum;
  }
  return total(sum);
}

// Adds to y the products of four expanded rows (a tile of `length` columns each) with x_count
// vectors, two vectors at a time, so that each loaded weight is used twice.
static void tile_times(
    const float *tile, size_t rows, size_t length, const float *x, size_t x_stride, size_t x_count,
    float *y, size_t y_stride) {
  size_t c = 0;
  if (rows == CK_TILE_ROWS && length % 8 == 0) {
    for (; c + 2 <= x_count; c += 2) {
      const float *x0 = x + c * x_stride, *x1 = x0 + x_stride;
      v8 a0 = ALL(0.0f), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
      for (size_t i = 0; i < length; i += 8) {
        v8 p = LOAD(x0 + i), q = LOAD(x1 + i);
        v8 w0 = LOAD(tile + i), w1 = LOAD(tile + CK_TILE + i);
        v8 w2 = LOAD(tile + 2 * CK_TILE + i), w3 = LOAD(tile + 3 * CK_TILE + i);
        a0 = w0 * p + a0, b0 = w0 * q + b0;
        a1 = w1 * p + a1, b1 = w1 * q + b1;
        a2 = w2 * p + a2, b2 = w2 * q + b2;
        a3 = w3 * p + a3, b3 = w3 * q + b3;
      }
      float *y0 = y + c * y_stride, *y1 = y0 + y_stride;
      y0[0] += total(a0), y0[1] += total(a1), y0[2] += total(a2), y0[3] += total(a3);
      y1[0] += total(b0), y1[1] += total(b1), y1[2] += total(b2), y1[3] += total(b3);
    }
  }
  for (; c < x_count; c++) {
    for (size_t r = 0; r < rows; r++) {
      y[c * y_stride + r] += ck_dot_vector(tile + r * CK_TILE, x + c * x_stride, length);
    }
  }
}

void ck_rows_times_vector(
    int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols, const float *x,
    size_t x_stride, size_t x_count, float *y, size_t y_stride) {
  enum { MOST_BLOCKS = 1024 };
  const uint8_t *p = source;
  size_t blocks = cols / CK_BLOCK;
  if (x_count == 1 && type == CK_F32) {
    for (size_t r = 0; r < rows; r++) {
      y[r] = ck_dot_vector((const float *)(const void *)(p + r * row_bytes), x, cols);
    }
    return;
  }
  if (x_count == 1 && type == CK_Q8_0) {
    for (size_t r = 0; r < rows; r++) y[r] = dot_q8(p + r * row_bytes, blocks, x);
    return;
  }
  if (x_count == 1 && (type == CK_Q4_0 || type == CK_Q4_1) && blocks <= MOST_BLOCKS) {
    float sums[MOST_BLOCKS];
    for (size_t b = 0; b < blocks; b++) {
      const float *v = x + b * CK_BLOCK;
      sums[b] = total((LOAD(v) + LOAD(v + 8)) + (LOAD(v + 16) + LOAD(v + 24)));
    }
    if (type == CK_Q4_0) {
      for (size_t r = 0; r < rows; r++) y[r] = dot_q4(p + r * row_bytes, blocks, 2, x, sums);
    } else {
      for (size_t r = 0; r < rows; r++) y[r] = dot_q4(p + r * row_bytes, blocks, 4, x, sums);
    }
    return;
  }
  float tile[CK_TILE_ROWS * CK_TILE];
  for (size_t r = 0; r < rows; r += CK_TILE_ROWS) {
    size_t height = rows - r < CK_TILE_ROWS ? rows - r : CK_TILE_ROWS;
    for (size_t c = 0; c < x_count; c++) {
      for (size_t i = 0; i < height; i++) y[c * y_stride + r + i] = 0;
    }
    for (size_t start = 0; start < cols; start += CK_TILE) {
      size_t length = cols - start < CK_TILE ? cols - start : CK_TILE;
      for (size_t i = 0; i < height; i++) {
        ck_expand_vector(
            type, p + (r + i) * row_bytes + ck_bytes(type, start), tile + i * CK_TILE, length);
      }
      tile_times(tile, height, length, x + start, x_stride, x_count, y + r, y_stride);
    }
  }
}

float ck_dot_vector(const float *a, const float *b, size_t count) {
  v8 s0 = ALL(0.0f), s1 = s0, s2 = s0, s3 = s0;
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    s0 = LOAD(a + i) * LOAD(b + i) + s0;
    s1 = LOAD(a + i + 8) * LOAD(b + i + 8) + s1;
    s2 = LOAD(a + i + 16) * LOAD(b + i + 16) + s2;
    s3 = LOAD(a + i + 24) * LOAD(b + i + 24) + s3;
  }
  for (; i + 8 <= count; i += 8) s0 = LOAD(a + i) * LOAD(b + i) + s0;
  float sum = total((s0 + s1) + (s2 + s3));
  for (; i < count; i++) sum += a[i] * b[i];
  return sum;
}

void ck_axpy_vector(float alpha, const float *x, float *y, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) STORE(y + i, LOAD(x + i) * alpha + LOAD(y + i));
  for (; i < count; i++) y[i] += alpha * x[i];
}

void ck_exp_vector(const float *x, float *y, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) STORE(y + i, exp8(LOAD(x + i)));
  for (; i < count; i++) y[i] = expf(x[i]);
}

static float maximum(const float *x, size_t count) {
  v8 tops = ALL(-INFINITY);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) tops = __builtin_elementwise_max(tops, LOAD(x + i));
  float top = -INFINITY;
  for (int k = 0; k < 8; k++) top = tops[k] > top ? tops[k] : top;
  for (; i < count; i++) top = x[i] > top ? x[i] : top;
  return top;
}

size_t ck_argmax_vector(const float *x, size_t count) {
  // min and max of the vector extensions leave numbers alone where the other is none.
  const float top = maximum(x, count);
  if (!isfinite(top)) return count;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const i8v equal = LOAD(x + i) == ALL(top);
    if (__builtin_reduce_or(equal)) break;
  }
  for (; i < count; i++) {
    if (x[i] == top) return i;
  }
  return count;
}

float ck_softmax_vector(float *x, size_t count) {
  float top = maximum(x, count);
  v8 sums = ALL(0.0f);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    v8 e = exp8(LOAD(x + i) - top);
    STORE(x + i, e);
    sums += e;
  }
  float sum = total(sums);
  for (; i < count; i++) sum += x[i] = expf(x[i] - top);
  float factor = 1.0f / sum;
  for (i = 0; i + 8 <= count; i += 8) STORE(x + i, LOAD(x + i) * factor);
  for (; i < count; i++) x[i] *= factor;
  return top + logf(sum);
}

float ck_log_sum_exp_vector(const float *x, size_t count) {
  float top = maximum(x, count);
  v8 sums = ALL(0.0f);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) sums += exp8(LOAD(x + i) - top);
  float sum = total(sums);
  for (; i < count; i++) sum += expf(x[i] - top);
  return top + logf(sum);
}

float ck_rms_norm_vector(
    const float *x, const float *weight, float *y, size_t count, float epsilon) {
  float inverse = 1.0f / sqrtf(ck_dot_vector(x, x, count) / (float)count + epsilon);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) STORE(y + i, LOAD(x + i) * inverse * LOAD(weight + i));
  for (; i < count; i++) y[i] = x[i] * inverse * weight[i];
  return inverse;
}

void ck_rms_norm_backward_vector(
    const float *x, const float *weight, const float *dy, float inverse, float *dx, size_t count) {
  v8 sums = ALL(0.0f);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) sums = LOAD(dy + i) * LOAD(weight + i) * LOAD(x + i) + sums;
  float sum = total(sums);
  for (; i < count; i++) sum += dy[i] * weight[i] * x[i];
  float factor = sum * inverse * inverse * inverse / (float)count;
  for (i = 0; i + 8 <= count; i += 8) {
    v8 step = LOAD(dy + i) * LOAD(weight + i) * inverse - LOAD(x + i) * factor;
    STORE(dx + i, LOAD(dx + i) + step);
  }
  for (; i < count; i++) dx[i] += dy[i] * weight[i] * inverse - x[i] * factor;
}

void ck_rope_vector(
    float *x, const float *cosines, const float *sines, size_t heads, size_t width,
    int32_t direction) {
  size_t half = width / 2;
  if (half % 8 != 0) {
    ck_rope_scalar(x, cosines, sines, heads, width, direction);
    return;
  }
  float sign = (float)direction;
  for (size_t h = 0; h < heads; h++, x += width) {
    for (size_t i = 0; i < half; i += 8) {
      v8 a = LOAD(x + i), b = LOAD(x + i + half), c = LOAD(cosines + i);
      v8 s = LOAD(sines + i) * sign;
      STORE(x + i, a * c - b * s);
      STORE(x + i + half, b * c + a * s);
    }
  }
}

#if defined(__x86_64__)
#pragma clang attribute pop
#endif
