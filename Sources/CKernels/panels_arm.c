// Products with 8-bit activations on ARM64 with the dot product instructions: 4 rows in a register.
#include "panel_layout.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define DOT __attribute__((target("dotprod")))
#define INLINE static inline __attribute__((always_inline))

// `count` activations (a constant) against the 4 rows of a panel that begin at row 4 * quarter.
DOT INLINE void tile_dot(
    const ck_layout layout, const uint8_t *p, size_t quarter, size_t rows, size_t cols,
    const int8_t *codes, const float *factors, const size_t count, float *y, size_t y_stride) {
  const size_t groups = (size_t)layout.columns / 4, blocks = cols / (size_t)layout.columns;
  const size_t factor_stride = ck_activation_factors(cols);
  const size_t width = ck_layout_factor_bytes(layout), record = ck_layout_record(layout);
  const float32x4_t zero = vdupq_n_f32((float)layout.zero);
  float32x4_t sums[4];
  for (size_t c = 0; c < count; c++) sums[c] = vdupq_n_f32(0);
  for (size_t b = 0; b < blocks; b++, p += record) {
    const uint8_t *own = p + quarter * width / 4;
    float32x4_t scale, minimum = zero;
    if (layout.wide) {
      scale = vreinterpretq_f32_u8(vld1q_u8(own));
      if (layout.minimums) minimum = vreinterpretq_f32_u8(vld1q_u8(own + width));
    } else {
      scale = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(own)));
      if (layout.minimums) minimum = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(own + width)));
    }
    const uint8_t *q = p + width * (layout.minimums ? 2 : 1) + 16 * quarter;
    int8x16_t weights[8];
    for (size_t g = 0; g < groups; g++) {
      if (layout.bits == 4) {
        const uint8x16_t both = vld1q_u8(q + 64 * (g / 2));
        weights[g] = vreinterpretq_s8_u8(g % 2 ? vshrq_n_u8(both, 4) : vandq_u8(both, vdupq_n_u8(15)));
      } else {
        const uint8x16_t code = vld1q_u8(q + 64 * g);
        weights[g] = vreinterpretq_s8_u8(
            layout.zero == CK_SIGNED ? veorq_u8(code, vdupq_n_u8(0x80)) : code);
      }
    }
    const size_t column = b * (size_t)layout.columns;
    const size_t shift = column / 32 * CK_FACTORS + (layout.columns == 32 ? CK_SHIFT : CK_LEFT_SHIFT + b % 2);
#pragma clang loop unroll(full)
    for (size_t c = 0; c < count; c++) {
      const int8_t *x = codes + c * cols + column;
      const float *f = factors + c * factor_stride;
      int32x4_t dots = vdupq_n_s32(0);
#pragma clang loop unroll(full)
      for (size_t g = 0; g < groups; g++) {
        int32_t four;
        memcpy(&four, x + 4 * g, 4);
        const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
        dots = vdotq_s32(dots, weights[g], all);
      }
      const float32x4_t dot = vcvtq_f32_s32(dots);
      const float32x4_t of_x = vdupq_n_f32(f[column / 32 * CK_FACTORS]), shifts = vdupq_n_f32(f[shift]);
      if (layout.minimums) {
        sums[c] = vfmaq_f32(sums[c], dot, vmulq_f32(scale, of_x));
        sums[c] = vfmaq_f32(sums[c], minimum, shifts);
      } else {
        float32x4_t centred = vmulq_f32(dot, of_x);
        if (layout.zero != CK_SIGNED) centred = vfmsq_f32(centred, zero, shifts);
        sums[c] = vfmaq_f32(sums[c], centred, scale);
      }
    }
  }
  for (size_t c = 0; c < count; c++) {
    if (rows >= 4) {
      vst1q_f32(y + c * y_stride, sums[c]);
    } else {
      float all[4];
      vst1q_f32(all, sums[c]);
      memcpy(y + c * y_stride, all, rows * sizeof(float));
    }
  }
}

#define CK_LAYOUT_TIMES_dot(...) CK_LAYOUT_TIMES(dot, __VA_ARGS__)
CK_DEFINE_PANEL_TIMES(dot, DOT, 4, )

void ck_quantize_row_dot(const float *x, size_t cols, int8_t *codes, float *factors) {
  for (size_t b = 0; b < cols / 32; b++, x += 32, codes += 32, factors += CK_FACTORS) {
    float32x4_t parts[8];
    uint32x4_t tops = vdupq_n_u32(0);
    for (int i = 0; i < 8; i++) {
      parts[i] = vld1q_f32(x + 4 * i);
      tops = vmaxq_u32(tops, vandq_u32(vreinterpretq_u32_f32(parts[i]), vdupq_n_u32(0x7FFFFFFF)));
    }
    const uint32_t top = vmaxvq_u32(tops);
    float most;
    memcpy(&most, &top, sizeof most);
    const int usable = top < 0x7F800000;
    const float inverse = usable && most >= 0x1p-119f ? 127.0f / most : 0.0f;
    const float scale = usable ? most / 127.0f : NAN;
    int32x4_t whole[8];
    for (int i = 0; i < 8; i++) {
      whole[i] = usable ? vcvtnq_s32_f32(vmulq_n_f32(parts[i], inverse)) : vdupq_n_s32(0);
    }
    int32_t sums[2];
    for (int half = 0; half < 2; half++) {
      const int32x4_t *w = whole + 4 * half;
      const int16x8_t first = vcombine_s16(vmovn_s32(w[0]), vmovn_s32(w[1]));
      const int16x8_t second = vcombine_s16(vmovn_s32(w[2]), vmovn_s32(w[3]));
      vst1q_s8(codes + 16 * half, vcombine_s8(vmovn_s16(first), vmovn_s16(second)));
      sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(w[0], w[1]), vaddq_s32(w[2], w[3])));
    }
    ck_put_factors(factors, scale, sums[0], sums[1]);
  }
}

#endif
