// The layout of panels, shared by the code that packs them and the kernels that read them.
#ifndef OPPU_CKERNELS_PANEL_LAYOUT_H
#define OPPU_CKERNELS_PANEL_LAYOUT_H

#include "panels.h"
#include "internal.h"

// How a type lies in a panel. Each block of `columns` columns is a record: 16 scales, 16 minimums
// where the type has them, then the codes. Code of row r and column 4 g + i of the block: with 8 bits
// byte 64 g + 4 r + i; with 4 bits the same byte of the pair of groups g / 2, low half for even g.
typedef struct {
  int bits;       // of a code: 4 or 8
  int columns;    // of a block: 32 or 16
  int wide;       // scales and minimums are f32, else f16
  int minimums;   // weight = scale * code + minimum, else scale * (code - zero)
  int zero;       // CK_SIGNED: codes are signed bytes plus 128, and products those of the signed bytes
} ck_layout;

static inline int ck_panel_layout(int32_t type, ck_layout *layout) {
  switch (type) {
    case CK_Q4_0: *layout = (ck_layout){4, 32, 0, 0, 8}; return 1;
    case CK_Q4_1: *layout = (ck_layout){4, 32, 0, 1, 0}; return 1;
    case CK_Q5_0: *layout = (ck_layout){8, 32, 0, 0, 16}; return 1;
    case CK_Q5_1: *layout = (ck_layout){8, 32, 0, 1, 0}; return 1;
    case CK_Q8_0: *layout = (ck_layout){8, 32, 0, 0, 128}; return 1;
    case CK_Q4_K: *layout = (ck_layout){4, 32, 1, 1, 0}; return 1;
    case CK_Q5_K: *layout = (ck_layout){8, 32, 1, 1, 0}; return 1;
    case CK_Q6_K: *layout = (ck_layout){8, 16, 1, 0, 32}; return 1;
    default: return 0;
  }
}

static inline size_t ck_layout_factor_bytes(ck_layout layout) {
  return (size_t)CK_PANEL_ROWS * (layout.wide ? 4 : 2);
}

static inline size_t ck_layout_record(ck_layout layout) {
  return ck_layout_factor_bytes(layout) * (layout.minimums ? 2 : 1) +
         (size_t)CK_PANEL_ROWS * (size_t)layout.columns * (size_t)layout.bits / 8;
}

// A kernel for each type, so that the layout is a constant in each of them.
#define CK_FOR_EACH_LAYOUT(KERNEL)                                                                 \
  switch (type) {                                                                                  \
    case CK_Q4_0: KERNEL(4, 32, 0, 0, 8); break;                                                   \
    case CK_Q4_1: KERNEL(4, 32, 0, 1, 0); break;                                                   \
    case CK_Q5_0: KERNEL(8, 32, 0, 0, 16); break;                                                  \
    case CK_Q5_1: KERNEL(8, 32, 0, 1, 0); break;                                                   \
    case CK_Q8_0: KERNEL(8, 32, 0, 0, 128); break;                                                 \
    case CK_Q4_K: KERNEL(4, 32, 1, 1, 0); break;                                                   \
    case CK_Q5_K: KERNEL(8, 32, 1, 1, 0); break;                                                   \
    case CK_Q6_K: KERNEL(8, 16, 1, 0, 32); break;                                                  \
    default: break;                                                                                \
  }

// `size` activations (a constant) at a time against `part_rows` rows of a panel at a time.
#define CK_PANEL_TILE(level, part_rows, size)                                                      \
  for (; c + (size) <= count; c += (size)) {                                                       \
    for (size_t part = 0; part * (part_rows) < rows; part++) {                                     \
      tile_##level(layout, panel, part, rows - part * (part_rows), cols, codes + c * cols,         \
                   factors + c * ck_activation_factors(cols), size,                                \
                   y + c * y_stride + part * (part_rows), y_stride);                               \
    }                                                                                              \
  }

// Defines a level's ck_panel_times over its tile_<level>, a kernel for each layout. `FIRST` is what
// goes before tiles of 4 activations, 2 and 1.
#define CK_DEFINE_PANEL_TIMES(level, TARGET, part_rows, FIRST)                                     \
  TARGET static inline __attribute__((always_inline)) void times_##level(                          \
      const ck_layout layout, const uint8_t *panel, size_t rows, size_t cols, const int8_t *codes, \
      const float *factors, size_t count, float *y, size_t y_stride) {                             \
    size_t c = 0;                                                                                  \
    FIRST                                                                                          \
    CK_PANEL_TILE(level, part_rows, 4)                                                             \
    CK_PANEL_TILE(level, part_rows, 2)                                                             \
    CK_PANEL_TILE(level, part_rows, 1)                                                             \
  }                                                                                                \
  TARGET void ck_panel_times_##level(                                                              \
      int32_t type, const uint8_t *panel, size_t rows, size_t cols, const int8_t *codes,           \
      const float *factors, size_t count, float *y, size_t y_stride) {                             \
    CK_FOR_EACH_LAYOUT(CK_LAYOUT_TIMES_##level)                                                    \
  }
#define CK_LAYOUT_TIMES(level, bits, columns, wide, minimums, zero)                                \
  times_##level((ck_layout){bits, columns, wide, minimums, zero}, panel, rows, cols, codes,        \
                factors, count, y, y_stride)

enum { CK_SIGNED = 128 };

// Where the factors of 32 activations lie.
enum { CK_SCALE, CK_SHIFT, CK_LEFT_SHIFT, CK_RIGHT_SHIFT, CK_OFFSET, CK_FACTORS };

static inline void ck_put_factors(float *factors, float scale, int32_t left, int32_t right) {
  const int32_t offset = -CK_SIGNED * (left + right);
  factors[CK_SCALE] = scale;
  factors[CK_SHIFT] = scale * (float)(left + right);
  factors[CK_LEFT_SHIFT] = scale * (float)left;
  factors[CK_RIGHT_SHIFT] = scale * (float)right;
  memcpy(factors + CK_OFFSET, &offset, sizeof offset);
}

#define CK_DECLARE_PANELS(suffix)                                                                  \
  void ck_quantize_row_##suffix(const float *, size_t, int8_t *, float *);                         \
  void ck_panel_times_##suffix(int32_t, const uint8_t *, size_t, size_t, const int8_t *,           \
                               const float *, size_t, float *, size_t);

CK_DECLARE_PANELS(scalar)
#if defined(__x86_64__)
CK_DECLARE_PANELS(avx2)
CK_DECLARE_PANELS(vnni)
#elif defined(__aarch64__)
CK_DECLARE_PANELS(dot)
#endif

#endif
