// Chooses between the vector kernels and their scalar twins.
#include "internal.h"

int32_t ck_cpu_family(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return CK_CPU_AVX512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CK_CPU_AVX2;
  return CK_CPU_BASIC;
#else
  return CK_CPU_OTHER;
#endif
}

int32_t ck_cpu_is_amd(void) {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") ? 1 : 0;
#else
  return 0;
#endif
}

int32_t ck_best_level(void) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return CK_LEVEL_SCALAR;
  }
  return ck_cpu_family() == CK_CPU_AVX512 ? CK_LEVEL_WIDE : CK_LEVEL_VECTOR;
#else
  return CK_LEVEL_VECTOR;
#endif
}

#define CK_CHOOSE(call_name, ...)                                                                  \
  (level != CK_LEVEL_SCALAR ? call_name##_vector(__VA_ARGS__) : call_name##_scalar(__VA_ARGS__))

void ck_expand(int32_t level, int32_t type, const void *source, float *out, size_t count) {
  CK_CHOOSE(ck_expand, type, source, out, count);
}

void ck_rows_times(
    int32_t level, int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols,
    const float *x, size_t x_stride, size_t x_count, float *y, size_t y_stride) {
  CK_CHOOSE(
      ck_rows_times, type, source, row_bytes, rows, cols, x, x_stride, x_count, y, y_stride);
}

float ck_dot(int32_t level, const float *a, const float *b, size_t count) {
  return CK_CHOOSE(ck_dot, a, b, count);
}

void ck_axpy(int32_t level, float alpha, const float *x, float *y, size_t count) {
  CK_CHOOSE(ck_axpy, alpha, x, y, count);
}

size_t ck_argmax(int32_t level, const float *x, size_t count) {
  return CK_CHOOSE(ck_argmax, x, count);
}

void ck_exp(int32_t level, const float *x, float *y, size_t count) {
  CK_CHOOSE(ck_exp, x, y, count);
}

float ck_softmax(int32_t level, float *x, size_t count) {
  return CK_CHOOSE(ck_softmax, x, count);
}

float ck_log_sum_exp(int32_t level, const float *x, size_t count) {
  return CK_CHOOSE(ck_log_sum_exp, x, count);
}

float ck_rms_norm(
    int32_t level, const float *x, const float *weight, float *y, size_t count, float epsilon) {
  return CK_CHOOSE(ck_rms_norm, x, weight, y, count, epsilon);
}

void ck_rms_norm_backward(
    int32_t level, const float *x, const float *weight, const float *dy, float inverse_rms,
    float *dx, size_t count) {
  CK_CHOOSE(ck_rms_norm_backward, x, weight, dy, inverse_rms, dx, count);
}

void ck_rope(
    int32_t level, float *x, const float *cosines, const float *sines, size_t heads, size_t width,
    int32_t direction) {
  CK_CHOOSE(ck_rope, x, cosines, sines, heads, width, direction);
}
