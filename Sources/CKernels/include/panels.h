// Products of quantised weights with 8-bit activations.
//
// Weights are repacked once: a panel holds 16 rows, block after block of columns, so that one vector
// register holds four columns of each of the rows and a product needs no sum across lanes. Codes stay
// as small as they were (4 bits, or a byte for 5, 6 and 8 bits), scales keep their values exactly.
// Every level computes the same integers and rounds the same sums in the same order: results are
// equal to the last bit, and a row's result does not depend on the rows computed with it.
#ifndef OPPU_CKERNELS_PANELS_H
#define OPPU_CKERNELS_PANELS_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum { CK_PANEL_ROWS = 16 };

// Levels of the products with 8-bit activations, weakest first. CK_INT8_DOT is ARM's.
enum { CK_INT8_SCALAR = 0, CK_INT8_AVX2 = 1, CK_INT8_VNNI = 2, CK_INT8_DOT = 3 };

// The best level of this processor.
int32_t ck_int8_level(void);

// Bytes of a panel of `cols` columns (a multiple of the type's block length); 0 for types that are
// not packed, which are those without blocks.
size_t ck_panel_bytes(int32_t type, size_t cols);

// Packs `rows` (1 to 16) rows that are `row_bytes` apart; missing rows become zeros.
void ck_pack_panel(
    int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols, void *panel);

// Packs f32 weights as CK_Q8_0 is packed: code * scale, the scale max |w| / 127 of each 32 columns of a
// row, rounded down to a half. Row r, column c is at source[r * row_stride + c * column_stride].
void ck_pack_floats(
    const float *source, size_t row_stride, size_t column_stride, size_t rows, size_t cols,
    void *panel);

// Numbers of 4 bytes that go with the codes of a row of `cols` activations: for each 32 columns the
// scale, its product with the sum of the codes and with that of each half, and -128 times the sum.
static inline size_t ck_activation_factors(size_t cols) { return cols / 32 * 5; }

// x ~ code * scale, scale = max |x| / 127 over each 32 columns. Not finite: the scale is NaN.
void ck_quantize_row(int32_t level, const float *x, size_t cols, int8_t *codes, float *factors);

// y[c * y_stride + r] = dot(row r of the panel, activations c), for r < rows (1 to 16), c < count.
// Activations c start at codes + c * cols and factors + c * ck_activation_factors(cols).
void ck_panel_times(
    int32_t level, int32_t type, const void *panel, size_t rows, size_t cols, const int8_t *codes,
    const float *factors, size_t count, float *y, size_t y_stride);

#pragma clang assume_nonnull end
#endif
