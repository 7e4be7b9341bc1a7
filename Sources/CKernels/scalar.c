// The scalar twins: one weight, one number at a time. They are what the vector kernels are tested
// against and what runs where there is no vector unit known to this library.
#include "internal.h"

static void expand_q4_k(const uint8_t *p, float *out) {
  float d = ck_half(p), dmin = ck_half(p + 2);
  const uint8_t *scales = p + 4, *q = p + 16;
  for (int j = 0; j < 8; j += 2) {
    uint8_t s, m;
    ck_q4_k_scale(scales, j, &s, &m);
    for (int i = 0; i < 32; i++) *out++ = d * s * (q[i] & 0x0F) - dmin * m;
    ck_q4_k_scale(scales, j + 1, &s, &m);
    for (int i = 0; i < 32; i++) *out++ = d * s * (q[i] >> 4) - dmin * m;
    q += 32;
  }
}

// Q4_K with a fifth bit for each number: bit j of fifth[i] belongs to number i of sub-block j.
static void expand_q5_k(const uint8_t *p, float *out) {
  float d = ck_half(p), dmin = ck_half(p + 2);
  const uint8_t *fifth = p + 16, *q = p + 48;
  for (int j = 0; j < 8; j++) {
    uint8_t s, m;
    ck_q4_k_scale(p + 4, j, &s, &m);
    for (int i = 0; i < 32; i++) {
      int low = j % 2 == 0 ? q[i] & 0x0F : q[i] >> 4;
      *out++ = d * s * (low | ((fifth[i] >> j) & 1) << 4) - dmin * m;
    }
    if (j % 2 == 1) q += 32;
  }
}

static void expand_q6_k(const uint8_t *p, float *out) {
  const uint8_t *ql = p, *qh = p + 128;
  const int8_t *scales = (const int8_t *)(p + 192);
  float d = ck_half(p + 208);
  for (int half = 0; half < 2; half++) {
    for (int i = 0; i < 32; i++) {
      int s = i / 16;
      int q1 = ((ql[i] & 0x0F) | ((qh[i] & 3) << 4)) - 32;
      int q2 = ((ql[i + 32] & 0x0F) | (((qh[i] >> 2) & 3) << 4)) - 32;
      int q3 = ((ql[i] >> 4) | (((qh[i] >> 4) & 3) << 4)) - 32;
      int q4 = ((ql[i + 32] >> 4) | (((qh[i] >> 6) & 3) << 4)) - 32;
      out[i] = d * scales[s] * q1;
      out[i + 32] = d * scales[s + 2] * q2;
      out[i + 64] = d * scales[s + 4] * q3;
      out[i + 96] = d * scales[s + 6] * q4;
    }
    out += 128, ql += 64, qh += 32, scales += 8;
  }
}

void ck_expand_scalar(int32_t type, const void *source, float *out, size_t count) {
  const uint8_t *p = source;
  switch (type) {
    case CK_F32: memcpy(out, p, count * 4); break;
    case CK_F16:
      for (size_t i = 0; i < count; i++) out[i] = ck_half(p + 2 * i);
      break;
    case CK_BF16:
      for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        uint32_t bits = (uint32_t)h << 16;
        memcpy(out + i, &bits, 4);
      }
      break;
    case CK_Q4_0:
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += Q4_0_BYTES, out += CK_BLOCK) {
        float d = ck_half(p);
        for (int i = 0; i < 16; i++) {
          out[i] = d * ((p[2 + i] & 0x0F) - 8);
          out[i + 16] = d * ((p[2 + i] >> 4) - 8);
        }
      }
      break;
    case CK_Q4_1:
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += Q4_1_BYTES, out += CK_BLOCK) {
        float d = ck_half(p), m = ck_half(p + 2);
        for (int i = 0; i < 16; i++) {
          out[i] = d * (p[4 + i] & 0x0F) + m;
          out[i + 16] = d * (p[4 + i] >> 4) + m;
        }
      }
      break;
    case CK_Q5_0:
    case CK_Q5_1: {
      // A scale (and, in Q5_1, a minimum), 32 fifth bits, 32 times four bits.
      size_t head = type == CK_Q5_0 ? 2 : 4;
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += head + 20, out += CK_BLOCK) {
        float d = ck_half(p), shift = type == CK_Q5_0 ? -16.0f * d : ck_half(p + 2);
        uint32_t fifth = 0;
        for (int i = 0; i < 4; i++) fifth |= (uint32_t)p[head + (size_t)i] << 8 * i;
        const uint8_t *q = p + head + 4;
        for (int i = 0; i < 16; i++) {
          out[i] = d * ((q[i] & 0x0F) | (int)(fifth >> i & 1) << 4) + shift;
          out[i + 16] = d * ((q[i] >> 4) | (int)(fifth >> (i + 16) & 1) << 4) + shift;
        }
      }
      break;
    }
    case CK_Q8_0:
      for (size_t b = 0; b < count / CK_BLOCK; b++, p += Q8_0_BYTES, out += CK_BLOCK) {
        float d = ck_half(p);
        for (int i = 0; i < 32; i++) out[i] = d * (int8_t)p[2 + i];
      }
      break;
    case CK_Q4_K:
      for (size_t b = 0; b < count / CK_SUPER; b++) expand_q4_k(p + b * Q4_K_BYTES, out + b * 256);
      break;
    case CK_Q5_K:
      for (size_t b = 0; b < count / CK_SUPER; b++) expand_q5_k(p + b * Q5_K_BYTES, out + b * 256);
      break;
    case CK_Q6_K:
      for (size_t b = 0; b < count / CK_SUPER; b++) expand_q6_k(p + b * Q6_K_BYTES, out + b * 256);
      break;
    default: break;
  }
}

void ck_rows_times_scalar(
    int32_t type, const void *source, size_t row_bytes, size_t rows, size_t cols, const float *x,
    size_t x_stride, size_t x_count, float *y, size_t y_stride) {
  float tile[CK_TILE];
  for (size_t r = 0; r < rows; r++) {
    const uint8_t *row = (const uint8_t *)source + r * row_bytes;
    for (size_t c = 0; c < x_count; c++) y[c * y_stride + r] = 0;
    for (size_t start = 0; start < cols; start += CK_TILE) {
      size_t length = cols - start < CK_TILE ? cols - start : CK_TILE;
      ck_expand_scalar(type, row + ck_bytes(type, start), tile, length);
      for (size_t c = 0; c < x_count; c++) {
        y[c * y_stride + r] += ck_dot_scalar(tile, x + c * x_stride + start, length);
      }
    }
  }
}

float ck_dot_scalar(const float *a, const float *b, size_t count) {
  float sum = 0;
  for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

void ck_axpy_scalar(float alpha, const float *x, float *y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += alpha * x[i];
}

void ck_exp_scalar(const float *x, float *y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = expf(x[i]);
}

static float maximum(const float *x, size_t count) {
  float top = -INFINITY;
  for (size_t i = 0; i < count; i++) top = x[i] > top ? x[i] : top;
  return top;
}

size_t ck_argmax_scalar(const float *x, size_t count) {
  size_t best = count;
  for (size_t i = 0; i < count; i++) {
    if (!isnan(x[i]) && (best == count || x[i] > x[best])) best = i;
  }
  return best < count && isfinite(x[best]) ? best : count;
}

float ck_softmax_scalar(float *x, size_t count) {
  float top = maximum(x, count), sum = 0;
  for (size_t i = 0; i < count; i++) sum += x[i] = expf(x[i] - top);
  for (size_t i = 0; i < count; i++) x[i] /= sum;
  return top + logf(sum);
}

float ck_log_sum_exp_scalar(const float *x, size_t count) {
  float top = maximum(x, count);
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += expf(x[i] - top);
  return top + (float)log(sum);
}

float ck_rms_norm_scalar(
    const float *x, const float *weight, float *y, size_t count, float epsilon) {
  float inverse = 1.0f / sqrtf(ck_dot_scalar(x, x, count) / (float)count + epsilon);
  for (size_t i = 0; i < count; i++) y[i] = x[i] * inverse * weight[i];
  return inverse;
}

void ck_rms_norm_backward_scalar(
    const float *x, const float *weight, const float *dy, float inverse, float *dx, size_t count) {
  float sum = 0;
  for (size_t i = 0; i < count; i++) sum += dy[i] * weight[i] * x[i];
  float factor = sum * inverse * inverse * inverse / (float)count;
  for (size_t i = 0; i < count; i++) dx[i] += dy[i] * weight[i] * inverse - x[i] * factor;
}

void ck_rope_scalar(
    float *x, const float *cosines, const float *sines, size_t heads, size_t width,
    int32_t direction) {
  size_t half = width / 2;
  for (size_t h = 0; h < heads; h++, x += width) {
    for (size_t i = 0; i < half; i++) {
      float a = x[i], b = x[i + half], c = cosines[i], s = (float)direction * sines[i];
      x[i] = a * c - b * s;
      x[i + half] = b * c + a * s;
    }
  }
}

static inline float element(const float *a, int32_t transposed, size_t ld, size_t i, size_t j) {
  return transposed ? a[j * ld + i] : a[i * ld + j];
}

void ck_gemm_portable(
    int32_t trans_a, int32_t trans_b, size_t m, size_t n, size_t k, float alpha, const float *a,
    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
  for (size_t i = 0; i < m; i++) {
    float *row = c + i * ldc;
    for (size_t j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
    if (!trans_b) {
      for (size_t p = 0; p < k; p++) {
        float factor = alpha * element(a, trans_a, lda, i, p);
        const float *line = b + p * ldb;
        for (size_t j = 0; j < n; j++) row[j] += factor * line[j];
      }
    } else {
      for (size_t j = 0; j < n; j++) {
        float sum = 0;
        for (size_t p = 0; p < k; p++) sum += element(a, trans_a, lda, i, p) * b[j * ldb + p];
        row[j] += alpha * sum;
      }
    }
  }
}
