// Exponential and logarithm with the same bits in every lane and on every target with fused
// multiply-add. Coefficients: Cephes' expf and logf (Moshier), errors below 2 ulp.
#if defined(PREGATE_COMMON_DEVICE_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PREGATE_COMMON_DEVICE_CPU_MATH_INL_H_
#undef PREGATE_COMMON_DEVICE_CPU_MATH_INL_H_
#else
#define PREGATE_COMMON_DEVICE_CPU_MATH_INL_H_
#endif

#include <limits>

#include "common/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

// e^x; 0 below -104, infinity above 89, NaN for NaN.
HWY_INLINE Lanes Exp(const Lanes& x) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) {
    const auto v = hn::Min(hn::Set(d, 89.0f), hn::Max(hn::Set(d, -104.0f), x.part[i]));
    const auto n = hn::NearestInt(hn::Mul(v, hn::Set(d, 1.44269504088896341f)));
    const auto nf = hn::ConvertTo(d, n);
    const auto f = hn::NegMulAdd(nf, hn::Set(d, -2.12194440e-4f),
                                 hn::NegMulAdd(nf, hn::Set(d, 0.693359375f), v));
    auto p = hn::Set(d, 1.9875691500e-4f);
    p = hn::MulAdd(p, f, hn::Set(d, 1.3981999507e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 8.3334519073e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 4.1665795894e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.6666665459e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.0000001201e-1f));
    p = hn::MulAdd(hn::Mul(f, f), p, hn::Add(f, hn::Set(d, 1.0f)));
    // 2^n in two factors, so that neither leaves the exponent's range.
    const auto half = hn::ShiftRight<1>(n);
    const auto bias = hn::Set(di, 127);
    const auto low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
    const auto high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
    r.part[i] = hn::Mul(hn::Mul(p, low), high);
  }
  return r;
}

// Natural logarithm. REQUIRES: each x is positive, finite and not subnormal.
HWY_INLINE Lanes Log(const Lanes& x) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) {
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    const auto shifted = hn::Sub(hn::BitCast(di, x.part[i]), hn::Set(di, 0x3F3504F3));
    const auto e = hn::ConvertTo(d, hn::ShiftRight<23>(shifted));
    const auto m_bits = hn::Add(hn::And(shifted, hn::Set(di, 0x007FFFFF)), hn::Set(di, 0x3F3504F3));
    const auto f = hn::Sub(hn::BitCast(d, m_bits), hn::Set(d, 1.0f));
    const auto z = hn::Mul(f, f);
    auto p = hn::Set(d, 7.0376836292e-2f);
    p = hn::MulAdd(p, f, hn::Set(d, -1.1514610310e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.1676998740e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -1.2420140846e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.4249322787e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -1.6668057665e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.0000714765e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, -2.4999993993e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 3.3333331174e-1f));
    auto y = hn::Mul(hn::Mul(p, f), z);
    y = hn::MulAdd(e, hn::Set(d, -2.12194440e-4f), y);
    y = hn::MulAdd(z, hn::Set(d, -0.5f), y);
    r.part[i] = hn::MulAdd(e, hn::Set(d, 0.693359375f), hn::Add(f, y));
  }
  return r;
}

// x / (1 + e^-x)
HWY_INLINE Lanes Silu(const Lanes& x) { return Div(x, Add(Set(1.0f), Exp(Sub(Set(0.0f), x)))); }

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
