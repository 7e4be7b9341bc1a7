// Packing weights into panels, the scalar products with them, and the choice of a level.
#include "panel_layout.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

int32_t ck_int8_level(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    return CK_INT8_VNNI;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return CK_INT8_AVX2;
  }
  return CK_INT8_SCALAR;
#elif defined(__aarch64__) && defined(__APPLE__)
  return CK_INT8_DOT;
#elif defined(__aarch64__) && defined(__linux__)
  enum { HAS_ASIMD_DOT = 1 << 20 };  // HWCAP_ASIMDDP
  return getauxval(AT_HWCAP) & HAS_ASIMD_DOT ? CK_INT8_DOT : CK_INT8_SCALAR;
#else
  return CK_INT8_SCALAR;
#endif
}

size_t ck_panel_bytes(int32_t type, size_t cols) {
  ck_layout layout;
  return ck_panel_layout(type, &layout)
             ? cols / (size_t)layout.columns * ck_layout_record(layout)
             : 0;
}

// Codes of 32 columns of a row, and the scales and minimums of its one or two blocks.
typedef struct {
  uint8_t codes[32];
  float scales[2], minimums[2];
} ck_piece;

static void low_then_high(const uint8_t *q, uint8_t *codes) {
  for (int i = 0; i < 16; i++) codes[i] = q[i] & 15;
  for (int i = 0; i < 16; i++) codes[16 + i] = q[i] >> 4;
}

static void fifth_bits(const uint8_t *p, uint8_t *codes) {
  uint32_t bits;
  memcpy(&bits, p, sizeof bits);
  for (int i = 0; i < 32; i++) codes[i] |= (uint8_t)((bits >> i & 1) << 4);
}

// Columns 32 number ... of a row.
static void read_piece(int32_t type, const uint8_t *row, size_t number, ck_piece *piece) {
  const uint8_t *p;
  const size_t inside = number % 8;  // in a block of 256
  switch (type) {
    case CK_Q4_0:
      p = row + number * Q4_0_BYTES;
      piece->scales[0] = ck_half(p);
      low_then_high(p + 2, piece->codes);
      break;
    case CK_Q4_1:
      p = row + number * Q4_1_BYTES;
      piece->scales[0] = ck_half(p);
      piece->minimums[0] = ck_half(p + 2);
      low_then_high(p + 4, piece->codes);
      break;
    case CK_Q5_0:
      p = row + number * Q5_0_BYTES;
      piece->scales[0] = ck_half(p);
      low_then_high(p + 6, piece->codes);
      fifth_bits(p + 2, piece->codes);
      break;
    case CK_Q5_1:
      p = row + number * Q5_1_BYTES;
      piece->scales[0] = ck_half(p);
      piece->minimums[0] = ck_half(p + 2);
      low_then_high(p + 8, piece->codes);
      fifth_bits(p + 4, piece->codes);
      break;
    case CK_Q8_0:
      p = row + number * Q8_0_BYTES;
      piece->scales[0] = ck_half(p);
      for (int i = 0; i < 32; i++) piece->codes[i] = p[2 + i] ^ 0x80;
      break;
    case CK_Q4_K:
    case CK_Q5_K: {
      p = row + number / 8 * (type == CK_Q4_K ? Q4_K_BYTES : Q5_K_BYTES);
      uint8_t scale, minimum;
      ck_q4_k_scale(p + 4, (int)inside, &scale, &minimum);
      piece->scales[0] = ck_half(p) * scale;
      piece->minimums[0] = -(ck_half(p + 2) * minimum);
      const uint8_t *q = p + (type == CK_Q4_K ? 16 : 48) + inside / 2 * 32;
      for (int i = 0; i < 32; i++) piece->codes[i] = inside % 2 ? q[i] >> 4 : q[i] & 15;
      if (type == CK_Q5_K) {
        for (int i = 0; i < 32; i++) {
          piece->codes[i] |= (uint8_t)((p[16 + i] >> inside & 1) << 4);
        }
      }
      break;
    }
    case CK_Q6_K: {
      p = row + number / 8 * Q6_K_BYTES;
      const size_t half = inside / 4, part = inside % 4;
      const uint8_t *low = p + half * 64 + part % 2 * 32, *high = p + 128 + half * 32;
      for (int i = 0; i < 32; i++) {
        uint8_t code = part < 2 ? low[i] & 15 : low[i] >> 4;
        piece->codes[i] = (uint8_t)(code | (high[i] >> (2 * part) & 3) << 4);
      }
      const int8_t *scales = (const int8_t *)(p + 192 + inside * 2);
      const float d = ck_half(p + 208);
      piece->scales[0] = d * scales[0];
      piece->scales[1] = d * scales[1];
      break;
    }
    default: break;
  }
}

// A float that came from a half, as that half again.
static void put_factor(ck_layout layout, uint8_t *at, size_t row, float value) {
  if (layout.wide) {
    memcpy(at + row * 4, &value, 4);
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  uint32_t half;
  if (magnitude >= 0x7F800000) {
    half = 0x7C00 | (magnitude >> 13 & 0x3FF);
  } else if (magnitude >= 0x38800000) {
    half = (magnitude - 0x38000000) >> 13;
  } else {  // a subnormal half is a multiple of 2^-24
    half = (uint32_t)(fabsf(value) * 0x1p24f);
  }
  const uint16_t stored = (uint16_t)(sign | half);
  memcpy(at + row * 2, &stored, 2);
}

void ck_pack_panel(
    int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols, void *panel) {
  ck_layout layout;
  if (!ck_panel_layout(type, &layout)) return;
  const size_t record = ck_layout_record(layout), factors = ck_layout_factor_bytes(layout);
  memset(panel, 0, ck_panel_bytes(type, cols));
  for (size_t row = 0; row < rows; row++) {
    const uint8_t *from = (const uint8_t *)source + row * row_bytes;
    for (size_t number = 0; number < cols / 32; number++) {
      ck_piece piece;
      read_piece(type, from, number, &piece);
      const size_t parts = 32 / (size_t)layout.columns;
      for (size_t part = 0; part < parts; part++) {
        uint8_t *to = (uint8_t *)panel + (number * parts + part) * record;
        put_factor(layout, to, row, piece.scales[part]);
        to += factors;
        if (layout.minimums) {
          put_factor(layout, to, row, piece.minimums[part]);
          to += factors;
        }
        const uint8_t *codes = piece.codes + part * (size_t)layout.columns;
        for (size_t i = 0; i < (size_t)layout.columns; i++) {
          const size_t group = i / 4, place = 4 * row + i % 4;
          if (layout.bits == 8) {
            to[64 * group + place] = codes[i];
          } else {
            to[64 * (group / 2) + place] |= (uint8_t)(codes[i] << (group % 2 * 4));
          }
        }
      }
    }
  }
}

void ck_pack_floats(
    const float *source, size_t row_stride, size_t column_stride, size_t rows, size_t cols,
    void *panel) {
  ck_layout layout;
  ck_panel_layout(CK_Q8_0, &layout);
  const size_t record = ck_layout_record(layout), factors = ck_layout_factor_bytes(layout);
  memset(panel, 0, ck_panel_bytes(CK_Q8_0, cols));
  for (size_t b = 0; b < cols / 32; b++) {
    uint8_t *to = (uint8_t *)panel + b * record;
    float most[CK_PANEL_ROWS] = {0}, inverse[CK_PANEL_ROWS] = {0};
    for (size_t i = 0; i < 32; i++) {
      const float *column = source + (b * 32 + i) * column_stride;
      for (size_t r = 0; r < rows; r++) {
        const float size = fabsf(column[r * row_stride]);
        most[r] = size > most[r] ? size : most[r];
      }
    }
    for (size_t r = 0; r < rows; r++) {
      put_factor(layout, to, r, most[r] / 127);
      const float scale = ck_half(to + r * 2);
      inverse[r] = scale > 0 ? 1 / scale : 0;
    }
    for (size_t i = 0; i < 32; i++) {
      const float *column = source + (b * 32 + i) * column_stride;
      uint8_t *codes = to + factors + i / 4 * 64 + i % 4;
      for (size_t r = 0; r < CK_PANEL_ROWS; r++) {
        float code = r < rows ? rintf(column[r * row_stride] * inverse[r]) : 0;
        code = code > 127 ? 127 : code < -127 ? -127 : code;
        codes[4 * r] = (uint8_t)((int32_t)code + 128);
      }
    }
  }
}

void ck_quantize_row_scalar(const float *x, size_t cols, int8_t *codes, float *factors) {
  for (size_t b = 0; b < cols / 32; b++, x += 32, codes += 32, factors += CK_FACTORS) {
    // Compared as integers, a number that is none is larger than all.
    uint32_t top = 0;
    for (int i = 0; i < 32; i++) {
      uint32_t bits;
      memcpy(&bits, x + i, sizeof bits);
      bits &= 0x7FFFFFFF;
      top = bits > top ? bits : top;
    }
    float most;
    memcpy(&most, &top, sizeof most);
    const int usable = top < 0x7F800000;
    const float inverse = usable && most >= 0x1p-119f ? 127.0f / most : 0.0f;
    const float scale = usable ? most / 127.0f : NAN;
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < 32; i++) {
      const int32_t code = usable ? (int32_t)rintf(x[i] * inverse) : 0;
      codes[i] = (int8_t)code;
      sums[i / 16] += code;
    }
    ck_put_factors(factors, scale, sums[0], sums[1]);
  }
}

static inline __attribute__((always_inline)) void times_scalar(
    ck_layout layout, const uint8_t *panel, size_t rows, size_t cols, const int8_t *codes,
    const float *factors, size_t count, float *y, size_t y_stride) {
  const size_t record = ck_layout_record(layout), width = ck_layout_factor_bytes(layout);
  const size_t columns = (size_t)layout.columns, blocks = cols / columns;
  for (size_t c = 0; c < count; c++) {
    for (size_t r = 0; r < rows; r++) {
      float sum = 0;
      const uint8_t *p = panel;
      for (size_t b = 0; b < blocks; b++, p += record) {
        const int8_t *x = codes + c * cols + b * columns;
        const float *f = factors + c * ck_activation_factors(cols) + b * columns / 32 * CK_FACTORS;
        const float shift = columns == 32 ? f[CK_SHIFT] : f[CK_LEFT_SHIFT + b % 2];
        float scale, minimum = 0;
        if (layout.wide) {
          memcpy(&scale, p + r * 4, 4);
          if (layout.minimums) memcpy(&minimum, p + width + r * 4, 4);
        } else {
          scale = ck_half(p + r * 2);
          if (layout.minimums) minimum = ck_half(p + width + r * 2);
        }
        const uint8_t *q = p + width * (layout.minimums ? 2 : 1);
        int32_t dot = 0;
        for (size_t i = 0; i < columns; i++) {
          const size_t group = i / 4, place = 4 * r + i % 4;
          const int32_t code = layout.bits == 8 ? q[64 * group + place]
                                                : q[64 * (group / 2) + place] >> (group % 2 * 4) & 15;
          dot += (layout.zero == CK_SIGNED ? code - CK_SIGNED : code) * x[i];
        }
        if (layout.minimums) {
          const float both = scale * f[CK_SCALE];
          sum = fmaf((float)dot, both, sum);
          sum = fmaf(minimum, shift, sum);
        } else {
          float centred = (float)dot * f[CK_SCALE];
          if (layout.zero != CK_SIGNED) centred = fmaf(-(float)layout.zero, shift, centred);
          sum = fmaf(centred, scale, sum);
        }
      }
      y[c * y_stride + r] = sum;
    }
  }
}

void ck_panel_times_scalar(
    int32_t type, const uint8_t *panel, size_t rows, size_t cols, const int8_t *codes,
    const float *factors, size_t count, float *y, size_t y_stride) {
#define KERNEL(bits, columns, wide, minimums, zero)                                                \
  times_scalar((ck_layout){bits, columns, wide, minimums, zero}, panel, rows, cols, codes, factors, \
               count, y, y_stride)
  CK_FOR_EACH_LAYOUT(KERNEL)
#undef KERNEL
}

void ck_quantize_row(int32_t level, const float *x, size_t cols, int8_t *codes, float *factors) {
  switch (level) {
#if defined(__x86_64__)
    case CK_INT8_VNNI: ck_quantize_row_vnni(x, cols, codes, factors); return;
    case CK_INT8_AVX2: ck_quantize_row_avx2(x, cols, codes, factors); return;
#elif defined(__aarch64__)
    case CK_INT8_DOT: ck_quantize_row_dot(x, cols, codes, factors); return;
#endif
    default: ck_quantize_row_scalar(x, cols, codes, factors);
  }
}

void ck_panel_times(
    int32_t level, int32_t type, const void *panel, size_t rows, size_t cols, const int8_t *codes,
    const float *factors, size_t count, float *y, size_t y_stride) {
  switch (level) {
#if defined(__x86_64__)
    case CK_INT8_VNNI:
      ck_panel_times_vnni(type, panel, rows, cols, codes, factors, count, y, y_stride);
      return;
    case CK_INT8_AVX2:
      ck_panel_times_avx2(type, panel, rows, cols, codes, factors, count, y, y_stride);
      return;
#elif defined(__aarch64__)
    case CK_INT8_DOT:
      ck_panel_times_dot(type, panel, rows, cols, codes, factors, count, y, y_stride);
      return;
#endif
    default: ck_panel_times_scalar(type, panel, rows, cols, codes, factors, count, y, y_stride);
  }
}
