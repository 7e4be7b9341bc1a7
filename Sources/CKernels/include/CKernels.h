// Inner loops over rows of numbers: quantised blocks (the ggml formats) and the elementwise steps
// of a llama-architecture transformer, each as a vector kernel and as a scalar twin.
//
// Every function takes the level to run at; `ck_best_level` names the best one that this processor
// has. Pointers need no alignment beyond that of their type; none may be null unless its count is 0.
#ifndef OPPU_CKERNELS_H
#define OPPU_CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "wide.h"
#include "panels.h"
#include "training.h"

#pragma clang assume_nonnull begin

// CK_LEVEL_WIDE: with AVX-512; kernels that have no version of their own for it run as vectors.
enum { CK_LEVEL_SCALAR = 0, CK_LEVEL_VECTOR = 1, CK_LEVEL_WIDE = 2 };

// Processor families that OpenBLAS has separate kernels for, weakest first.
enum { CK_CPU_BASIC = 0, CK_CPU_AVX2 = 1, CK_CPU_AVX512 = 2, CK_CPU_OTHER = 3 };

// ggml's numbers for tensor types.
enum {
  CK_F32 = 0, CK_F16 = 1, CK_Q4_0 = 2, CK_Q4_1 = 3, CK_Q5_0 = 6, CK_Q5_1 = 7, CK_Q8_0 = 8,
  CK_Q4_K = 12, CK_Q5_K = 13, CK_Q6_K = 14, CK_BF16 = 30
};

int32_t ck_best_level(void);
// Tells the processor that this is a waiting loop.
static inline void ck_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
int32_t ck_cpu_family(void);
// 1 where the processor's maker is AMD, which OpenBLAS has own names for.
int32_t ck_cpu_is_amd(void);

// Expands `count` consecutive weights (a multiple of the type's block length) to f32.
void ck_expand(int32_t level, int32_t type, const void *source, float *out, size_t count);

// y[c * y_stride + r] = dot(row r, x + c * x_stride), for r < rows and c < x_count, where row r
// starts at source + r * row_bytes and has `cols` weights.
void ck_rows_times(
    int32_t level, int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols,
    const float *x, size_t x_stride, size_t x_count, float *y, size_t y_stride);

float ck_dot(int32_t level, const float *a, const float *b, size_t count);
// y += alpha * x
void ck_axpy(int32_t level, float alpha, const float *x, float *y, size_t count);
// The first index of the largest number, not numbers left out; `count` where that is not finite.
size_t ck_argmax(int32_t level, const float *x, size_t count);
// y = exp(x); in place is allowed.
void ck_exp(int32_t level, const float *x, float *y, size_t count);
// In place; returns the natural logarithm of the sum of exponentials of the input.
float ck_softmax(int32_t level, float *x, size_t count);
// The natural logarithm of the sum of exponentials.
float ck_log_sum_exp(int32_t level, const float *x, size_t count);
// y = x / sqrt(mean(x^2) + epsilon) * weight; returns 1 / sqrt(mean(x^2) + epsilon).
float ck_rms_norm(
    int32_t level, const float *x, const float *weight, float *y, size_t count, float epsilon);
// dx += the gradient of RMSNorm with respect to x, given dy and the forward pass's return value.
void ck_rms_norm_backward(
    int32_t level, const float *x, const float *weight, const float *dy, float inverse_rms,
    float *dx, size_t count);
// out = silu(gate) * up; in place is allowed.
void ck_silu_mul(int32_t level, const float *gate, const float *up, float *out, size_t count);
// The gradients of silu(gate) * up; dgate and dup may be the arrays gate and up themselves.
void ck_silu_mul_backward(
    int32_t level, const float *gate, const float *up, const float *dout, float *dgate, float *dup,
    size_t count);
// Rotates `heads` vectors of `width` in place, pairs (i, i + width / 2), by the angles whose cosines
// and sines are given (width / 2 of each). `direction` 1 rotates forward, -1 back.
void ck_rope(
    int32_t level, float *x, const float *cosines, const float *sines, size_t heads, size_t width,
    int32_t direction);
// C[m x n] = alpha * op(A) op(B) + beta * C, row-major. The last resort where there is no OpenBLAS.
void ck_gemm_portable(
    int32_t trans_a, int32_t trans_b, size_t m, size_t n, size_t k, float alpha, const float *a,
    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

#pragma clang assume_nonnull end
#endif
