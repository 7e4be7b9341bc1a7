// Products with 8-bit activations on x86-64: AVX-512 VNNI, 16 rows in a register, and AVX2, 8 rows.
#include "panel_layout.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))
#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline))

// So far ahead of its use that a record comes from memory in time: measured on one core, four records
// ahead 26 GB/s instead of 19, eight records 28.
enum { PREFETCH_BYTES = 2560 };

INLINE void prefetch(const uint8_t *p, size_t count) {
  for (size_t line = 0; line < count; line += 64) {
    _mm_prefetch((const char *)p + PREFETCH_BYTES + line, _MM_HINT_T0);
  }
}

INLINE int32_t four_codes(const int8_t *codes) {
  int32_t value;
  memcpy(&value, codes, 4);
  return value;
}

INLINE int32_t offset_of(const float *factors) {
  int32_t value;
  memcpy(&value, factors + CK_OFFSET, 4);
  return value;
}

// --- AVX-512 VNNI ------------------------------------------------------------------------------

// `count` activations (a constant) against a panel, which is a single part. The codes of a block are
// unpacked once and stay in registers for all of them.
VNNI INLINE void tile_vnni(
    const ck_layout layout, const uint8_t *p, size_t part, size_t rows, size_t cols,
    const int8_t *codes, const float *factors, const size_t count, float *y, size_t y_stride) {
  (void)part;
  const size_t groups = (size_t)layout.columns / 4, blocks = cols / (size_t)layout.columns;
  const size_t factor_stride = ck_activation_factors(cols);
  const size_t width = ck_layout_factor_bytes(layout), record = ck_layout_record(layout);
  const __m512 zero = _mm512_set1_ps((float)layout.zero);
  __m512 sums[8];
  for (size_t c = 0; c < count; c++) sums[c] = _mm512_setzero_ps();
  for (size_t b = 0; b < blocks; b++, p += record) {
    prefetch(p, record);
    __m512 scale, minimum = zero;
    if (layout.wide) {
      scale = _mm512_loadu_ps(p);
      if (layout.minimums) minimum = _mm512_loadu_ps(p + width);
    } else {
      scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
      if (layout.minimums) {
        minimum = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p + width)));
      }
    }
    const uint8_t *q = p + width * (layout.minimums ? 2 : 1);
    __m512i weights[8];
    if (layout.bits == 4) {
      const __m512i low = _mm512_set1_epi8(15);
      for (size_t g = 0; g < groups; g += 2) {
        const __m512i both = _mm512_loadu_si512(q + 32 * g);
        weights[g] = _mm512_and_si512(both, low);
        weights[g + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
    } else {
      for (size_t g = 0; g < groups; g++) weights[g] = _mm512_loadu_si512(q + 64 * g);
    }
    const size_t column = b * (size_t)layout.columns;
    const size_t shift = column / 32 * CK_FACTORS + (layout.columns == 32 ? CK_SHIFT : CK_LEFT_SHIFT + b % 2);
#pragma clang loop unroll(full)
    for (size_t c = 0; c < count; c++) {
      const int8_t *x = codes + c * cols + column;
      const float *f = factors + c * factor_stride;
      // The instruction wants unsigned codes: 128 more than signed ones are.
      __m512i dots = layout.zero == CK_SIGNED
                         ? _mm512_set1_epi32(offset_of(f + column / 32 * CK_FACTORS))
                         : _mm512_setzero_si512();
#pragma clang loop unroll(full)
      for (size_t g = 0; g < groups; g++) {
        dots = _mm512_dpbusd_epi32(dots, weights[g], _mm512_set1_epi32(four_codes(x + 4 * g)));
      }
      const __m512 dot = _mm512_cvtepi32_ps(dots);
      const __m512 of_x = _mm512_set1_ps(f[column / 32 * CK_FACTORS]), shifts = _mm512_set1_ps(f[shift]);
      if (layout.minimums) {
        sums[c] = _mm512_fmadd_ps(dot, _mm512_mul_ps(scale, of_x), sums[c]);
        sums[c] = _mm512_fmadd_ps(minimum, shifts, sums[c]);
      } else {
        __m512 centred = _mm512_mul_ps(dot, of_x);
        if (layout.zero != CK_SIGNED) centred = _mm512_fnmadd_ps(zero, shifts, centred);
        sums[c] = _mm512_fmadd_ps(centred, scale, sums[c]);
      }
    }
  }
  const __mmask16 mask = (__mmask16)((1u << rows) - 1);
  for (size_t c = 0; c < count; c++) _mm512_mask_storeu_ps(y + c * y_stride, mask, sums[c]);
}

#define CK_LAYOUT_TIMES_vnni(...) CK_LAYOUT_TIMES(vnni, __VA_ARGS__)
CK_DEFINE_PANEL_TIMES(vnni, VNNI, 16, CK_PANEL_TILE(vnni, 16, 8))

VNNI void ck_quantize_row_vnni(const float *x, size_t cols, int8_t *codes, float *factors) {
  enum { AT_A_TIME = 16 };
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  const __m256i flip = _mm256_set1_epi8((char)0x80);
  const size_t blocks = cols / 32;
  for (size_t start = 0; start < blocks; start += AT_A_TIME) {
    const size_t count = blocks - start < AT_A_TIME ? blocks - start : AT_A_TIME;
    // The divisions of 16 blocks are two.
    uint32_t tops[AT_A_TIME] = {0};
    for (size_t b = 0; b < count; b++) {
      const float *from = x + (start + b) * 32;
      tops[b] = _mm512_reduce_max_epu32(
          _mm512_max_epu32(_mm512_and_si512(_mm512_loadu_si512(from), magnitude),
                           _mm512_and_si512(_mm512_loadu_si512(from + 16), magnitude)));
    }
    const __m512i top = _mm512_loadu_si512(tops);
    const __m512 most = _mm512_castsi512_ps(top), limit = _mm512_set1_ps(127.0f);
    const __mmask16 usable = _mm512_cmplt_epu32_mask(top, _mm512_set1_epi32(0x7F800000));
    const __mmask16 large =
        _mm512_mask_cmp_ps_mask(usable, most, _mm512_set1_ps(0x1p-119f), _CMP_GE_OQ);
    float inverses[AT_A_TIME], scales[AT_A_TIME];
    _mm512_storeu_ps(inverses, _mm512_maskz_div_ps(large, limit, most));
    _mm512_storeu_ps(scales, _mm512_mask_div_ps(_mm512_set1_ps(NAN), usable, most, limit));
    for (size_t b = 0; b < count; b++) {
      const float *from = x + (start + b) * 32;
      const __mmask16 all = usable >> b & 1 ? 0xFFFF : 0;
      const __m512 inverse = _mm512_set1_ps(inverses[b]);
      const __m512i first =
          _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(_mm512_loadu_ps(from), inverse));
      const __m512i second =
          _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(_mm512_loadu_ps(from + 16), inverse));
      const __m256i bytes =
          _mm256_set_m128i(_mm512_cvtepi32_epi8(second), _mm512_cvtepi32_epi8(first));
      _mm256_storeu_si256((__m256i *)(codes + (start + b) * 32), bytes);
      // Sums of 8 codes each, as unsigned bytes, which are 128 larger.
      const __m256i sums = _mm256_sad_epu8(_mm256_xor_si256(bytes, flip), _mm256_setzero_si256());
      const __m128i left = _mm256_castsi256_si128(sums), right = _mm256_extracti128_si256(sums, 1);
      ck_put_factors(
          factors + (start + b) * CK_FACTORS, scales[b],
          _mm_extract_epi32(left, 0) + _mm_extract_epi32(left, 2) - 16 * 128,
          _mm_extract_epi32(right, 0) + _mm_extract_epi32(right, 2) - 16 * 128);
    }
  }
}

// --- AVX2 --------------------------------------------------------------------------------------

// The products of four neighbouring columns, summed, of 8 rows. `pairs` collects sums of two in 16
// bits as long as they fit: 2 * 127 * code each.
AVX2 INLINE __m256i dots_avx2(const ck_layout layout, const __m256i *weights, const int8_t *x) {
  const int groups = layout.columns / 4;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i dots = _mm256_setzero_si256();
  if (layout.zero == CK_SIGNED) {
    // |w| times x with the sign of w: a product of two signed bytes, which there is no instruction
    // for. A sum of two products is at most 2 * 128 * 127.
    const __m256i flip = _mm256_set1_epi8((char)0x80);
#pragma clang loop unroll(full)
    for (int g = 0; g < groups; g++) {
      const __m256i four = _mm256_set1_epi32(four_codes(x + 4 * g));
      const __m256i weight = _mm256_xor_si256(weights[g], flip);
      const __m256i pairs =
          _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(four, weight));
      dots = _mm256_add_epi32(dots, _mm256_madd_epi16(pairs, ones));
    }
    return dots;
  }
  // Codes below 16, 32 and 64: so many sums of pairs stay below 2^15.
  const int fit = layout.bits == 4 ? 8 : layout.columns == 16 ? 2 : 4;
#pragma clang loop unroll(full)
  for (int start = 0; start < groups; start += fit) {
    __m256i pairs = _mm256_setzero_si256();
#pragma clang loop unroll(full)
    for (int g = start; g < start + fit; g++) {
      const __m256i four = _mm256_set1_epi32(four_codes(x + 4 * g));
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(weights[g], four));
    }
    dots = _mm256_add_epi32(dots, _mm256_madd_epi16(pairs, ones));
  }
  return dots;
}

// `count` activations (a constant) against 8 rows of a panel: `half` 0 or 1.
AVX2 INLINE void tile_avx2(
    const ck_layout layout, const uint8_t *p, size_t half, size_t rows, size_t cols,
    const int8_t *codes, const float *factors, const size_t count, float *y, size_t y_stride) {
  const size_t groups = (size_t)layout.columns / 4, blocks = cols / (size_t)layout.columns;
  const size_t factor_stride = ck_activation_factors(cols);
  const size_t width = ck_layout_factor_bytes(layout), record = ck_layout_record(layout);
  const __m256 zero = _mm256_set1_ps((float)layout.zero);
  __m256 sums[4];
  for (size_t c = 0; c < count; c++) sums[c] = _mm256_setzero_ps();
  for (size_t b = 0; b < blocks; b++, p += record) {
    if (half == 0) prefetch(p, record);
    const uint8_t *own = p + half * width / 2;
    __m256 scale, minimum = zero;
    if (layout.wide) {
      scale = _mm256_loadu_ps((const float *)(const void *)own);
      if (layout.minimums) minimum = _mm256_loadu_ps((const float *)(const void *)(own + width));
    } else {
      scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)own));
      if (layout.minimums) {
        minimum = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(own + width)));
      }
    }
    const uint8_t *q = p + width * (layout.minimums ? 2 : 1) + 32 * half;
    __m256i weights[8];
    if (layout.bits == 4) {
      const __m256i low = _mm256_set1_epi8(15);
      for (size_t g = 0; g < groups; g += 2) {
        const __m256i both = _mm256_loadu_si256((const __m256i *)(q + 32 * g));
        weights[g] = _mm256_and_si256(both, low);
        weights[g + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
      }
    } else {
      for (size_t g = 0; g < groups; g++) {
        weights[g] = _mm256_loadu_si256((const __m256i *)(q + 64 * g));
      }
    }
    const size_t column = b * (size_t)layout.columns;
    const size_t shift = column / 32 * CK_FACTORS + (layout.columns == 32 ? CK_SHIFT : CK_LEFT_SHIFT + b % 2);
#pragma clang loop unroll(full)
    for (size_t c = 0; c < count; c++) {
      const float *f = factors + c * factor_stride;
      const __m256 dot =
          _mm256_cvtepi32_ps(dots_avx2(layout, weights, codes + c * cols + column));
      const __m256 of_x = _mm256_set1_ps(f[column / 32 * CK_FACTORS]), shifts = _mm256_set1_ps(f[shift]);
      if (layout.minimums) {
        sums[c] = _mm256_fmadd_ps(dot, _mm256_mul_ps(scale, of_x), sums[c]);
        sums[c] = _mm256_fmadd_ps(minimum, shifts, sums[c]);
      } else {
        __m256 centred = _mm256_mul_ps(dot, of_x);
        if (layout.zero != CK_SIGNED) centred = _mm256_fnmadd_ps(zero, shifts, centred);
        sums[c] = _mm256_fmadd_ps(centred, scale, sums[c]);
      }
    }
  }
  for (size_t c = 0; c < count; c++) {
    if (rows >= 8) {
      _mm256_storeu_ps(y + c * y_stride, sums[c]);
    } else {
      float all[8];
      _mm256_storeu_ps(all, sums[c]);
      memcpy(y + c * y_stride, all, rows * sizeof(float));
    }
  }
}

#define CK_LAYOUT_TIMES_avx2(...) CK_LAYOUT_TIMES(avx2, __VA_ARGS__)
CK_DEFINE_PANEL_TIMES(avx2, AVX2, 8, )

AVX2 void ck_quantize_row_avx2(const float *x, size_t cols, int8_t *codes, float *factors) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  for (size_t b = 0; b < cols / 32; b++, x += 32, codes += 32, factors += CK_FACTORS) {
    __m256 parts[4];
    __m256i tops = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
      parts[i] = _mm256_loadu_ps(x + 8 * i);
      tops = _mm256_max_epu32(tops, _mm256_and_si256(_mm256_castps_si256(parts[i]), magnitude));
    }
    uint32_t lanes[8], top = 0;
    _mm256_storeu_si256((__m256i *)lanes, tops);
    for (int i = 0; i < 8; i++) top = lanes[i] > top ? lanes[i] : top;
    float most;
    memcpy(&most, &top, sizeof most);
    const int usable = top < 0x7F800000;
    const float inverse = usable && most >= 0x1p-119f ? 127.0f / most : 0.0f;
    const float scale = usable ? most / 127.0f : NAN;
    const __m256i all = _mm256_set1_epi32(usable ? -1 : 0);
    __m256i whole[4];
    for (int i = 0; i < 4; i++) {
      const __m256 scaled = _mm256_mul_ps(parts[i], _mm256_set1_ps(inverse));
      whole[i] = _mm256_and_si256(_mm256_cvtps_epi32(scaled), all);
    }
    // Packing takes 128-bit halves in turn; the permutation puts the columns in order.
    const __m256i words = _mm256_packs_epi32(whole[0], whole[1]);
    const __m256i more = _mm256_packs_epi32(whole[2], whole[3]);
    const __m256i bytes = _mm256_permutevar8x32_epi32(
        _mm256_packs_epi16(words, more), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)codes, bytes);
    int32_t left[8], right[8], sums[2] = {0, 0};
    _mm256_storeu_si256((__m256i *)left, _mm256_add_epi32(whole[0], whole[1]));
    _mm256_storeu_si256((__m256i *)right, _mm256_add_epi32(whole[2], whole[3]));
    for (int i = 0; i < 8; i++) sums[0] += left[i], sums[1] += right[i];
    ck_put_factors(factors, scale, sums[0], sums[1]);
  }
}

#endif
