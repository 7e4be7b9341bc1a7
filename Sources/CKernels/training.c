// Kernels of training: plain loops that the compiler turns into vectors, once per instruction set.
#include "training.h"

#include <math.h>
#include <string.h>

// The loader asks which version to take before a thread sanitizer is ready to be called.
#if defined(__x86_64__) && defined(__linux__) && !__has_feature(thread_sanitizer)
#define VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS
#endif
// Sums may be taken in any order: without this no reduction is vectorised.
#define ANY_ORDER _Pragma("clang fp reassociate(on)")
#define INLINE static inline __attribute__((always_inline))

// e^x to about 2 units in the last place, without branches. Below -87 it gives about 1e-38.
// x = n ln 2 + r, e^r by a polynomial (Cephes' expf coefficients), 2^n through the exponent bits.
INLINE float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000u + 127u) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

// In sixteen lanes, because the compiler may not reorder comparisons by itself.
INLINE float largest(const float *x, size_t count) {
  float lanes[16];
  for (int lane = 0; lane < 16; lane++) lanes[lane] = -INFINITY;
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int lane = 0; lane < 16; lane++)
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  for (; i < count; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  float top = lanes[0];
  for (int lane = 1; lane < 16; lane++) top = lanes[lane] > top ? lanes[lane] : top;
  return top;
}

VERSIONS void training_softmax_backward(float *scores, float *d, size_t count, size_t total,
                                        float log_sum, float dot) {
  for (size_t i = 0; i < count; i++) {
    const float p = exponential(scores[i] - log_sum);
    scores[i] = p;
    d[i] = p * (d[i] - dot);
  }
  for (size_t i = count; i < total; i++) scores[i] = 0;
  for (size_t i = count; i < total; i++) d[i] = 0;
}

VERSIONS double training_cross_entropy(float *row, size_t count, size_t target, float gradient) {
  ANY_ORDER
  const float top = largest(row, count);
  const float wanted = row[target];
  double sum = 0;
  for (size_t block = 0; block < count; block += 1024) {
    const size_t end = block + 1024 < count ? block + 1024 : count;
    float part = 0;
    for (size_t i = block; i < end; i++) part += exponential(row[i] - top);
    sum += part;
  }
  if (gradient != 0) {
    const float factor = (float)(gradient / sum);
    for (size_t i = 0; i < count; i++) row[i] = factor * exponential(row[i] - top);
    row[target] -= gradient;
  }
  return log(sum) + (double)top - (double)wanted;
}

VERSIONS double training_sum_of_squares(const float *x, size_t count) {
  ANY_ORDER
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
  return sum;
}

// A 32-bit hash of key and index (two rounds of multiply and xorshift): a random number that can be
// drawn again in the backward pass without having been stored.
INLINE uint32_t draw(uint64_t key, uint32_t index) {
  uint32_t x = index * 0x9E3779B9u + (uint32_t)key;
  x = (x ^ (x >> 16)) * 0x45D9F3Bu;
  x ^= (uint32_t)(key >> 32);
  x = (x ^ (x >> 16)) * 0x45D9F3Bu;
  return x ^ (x >> 16);
}

VERSIONS void training_dropout(float *y, const float *x, size_t first, size_t count, float drop,
                               uint64_t key) {
  const uint32_t threshold = (uint32_t)(drop * 4294967040.0f);
  const float scale = 1.0f / (1.0f - drop);
  for (size_t i = 0; i < count; i++)
    y[i] = draw(key, (uint32_t)(first + i)) < threshold ? 0 : x[i] * scale;
}

VERSIONS void training_dropout_add(float *y, const float *x, size_t first, size_t count, float drop,
                                   uint64_t key) {
  const uint32_t threshold = (uint32_t)(drop * 4294967040.0f);
  const float scale = 1.0f / (1.0f - drop);
  for (size_t i = 0; i < count; i++)
    y[i] += draw(key, (uint32_t)(first + i)) < threshold ? 0 : x[i] * scale;
}

VERSIONS void training_adamw(float *parameter, float *mean, float *variance, const float *gradient,
                             size_t count, float clip, float rate, float beta1, float beta2,
                             float epsilon, float decay, float correction1, float correction2) {
  const float keep = 1.0f - rate * decay, step = rate / correction1;
  const float root = 1.0f / sqrtf(correction2);
  for (size_t i = 0; i < count; i++) {
    const float g = gradient[i] * clip;
    const float m = beta1 * mean[i] + (1.0f - beta1) * g;
    const float v = beta2 * variance[i] + (1.0f - beta2) * g * g;
    mean[i] = m;
    variance[i] = v;
    parameter[i] = parameter[i] * keep - step * m / (__builtin_elementwise_sqrt(v) * root + epsilon);
  }
}
