// e^x over 16 numbers, for the kernels that define V, VI, INLINE and NAME before they include this.

// e^x as exp8 in vector.c computes it.
INLINE void NAME(exp)(V *in_out) {
  V x = *in_out;
  const VI kept = x > -87.3f;
  x = __builtin_elementwise_min(x, (V){} + 88.3f);
  x = __builtin_elementwise_max(x, (V){} - 87.3f);
  const V shifted = x * 1.44269504088896341f + 12582912.0f;
  const V n = shifted - 12582912.0f;
  V r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = (V){} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const V result = p * (r * r) + r + 1.0f;
  const VI exponent = (__builtin_convertvector(n, VI) + 127) << 23;
  *in_out = (V)((VI)(result * (V)exponent) & kept);
}
