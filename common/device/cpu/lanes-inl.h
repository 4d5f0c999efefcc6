// Sixteen floats, whatever the width of a vector register: one AVX-512 register, two of AVX2, four
// of SSE. Kernels are written in lanes of 16, in one order, so that every instruction set with a
// fused multiply-add computes the same bits. Included once a target (Highway's foreach_target).
#if defined(PREGATE_COMMON_DEVICE_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PREGATE_COMMON_DEVICE_CPU_LANES_INL_H_
#undef PREGATE_COMMON_DEVICE_CPU_LANES_INL_H_
#else
#define PREGATE_COMMON_DEVICE_CPU_LANES_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::CappedTag<float, 16>;
using BitsTag = hn::RebindToUnsigned<FloatTag>;
using Bf16Tag = hn::Rebind<hwy::bfloat16_t, FloatTag>;

inline constexpr size_t kLanes = 16;
inline constexpr size_t kPartLanes = hn::MaxLanes(FloatTag());
inline constexpr size_t kParts = kLanes / kPartLanes;

struct Lanes {
  hn::Vec<FloatTag> part[kParts];
};

HWY_INLINE Lanes Set(float x) {
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) r.part[i] = hn::Set(FloatTag(), x);
  return r;
}

HWY_INLINE Lanes Load(const float* p) {
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) r.part[i] = hn::LoadU(FloatTag(), p + i * kPartLanes);
  return r;
}

// Widens bf16 by a shift.
HWY_INLINE Lanes Load(const uint16_t* p) {
  const auto* bf16 = reinterpret_cast<const hwy::bfloat16_t*>(p);
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) {
    r.part[i] = hn::PromoteTo(FloatTag(), hn::LoadU(Bf16Tag(), bf16 + i * kPartLanes));
  }
  return r;
}

HWY_INLINE void Store(const Lanes& x, float* p) {
  for (size_t i = 0; i < kParts; ++i) hn::StoreU(x.part[i], FloatTag(), p + i * kPartLanes);
}

// The first n of 16; the rest reads as `fill`.
HWY_INLINE Lanes LoadFirst(const float* p, size_t n, float fill = 0) {
  if (n >= kLanes) return Load(p);
  float buffer[kLanes];
  for (float& x : buffer) x = fill;
  std::memcpy(buffer, p, n * sizeof(float));
  return Load(buffer);
}

HWY_INLINE void StoreFirst(const Lanes& x, float* p, size_t n) {
  if (n >= kLanes) return Store(x, p);
  float buffer[kLanes];
  Store(x, buffer);
  std::memcpy(p, buffer, n * sizeof(float));
}

#define PREGATE_LANES_BINARY(NAME)                                                  \
  HWY_INLINE Lanes NAME(const Lanes& a, const Lanes& b) {                           \
    Lanes r;                                                                        \
    for (size_t i = 0; i < kParts; ++i) r.part[i] = hn::NAME(a.part[i], b.part[i]); \
    return r;                                                                       \
  }
PREGATE_LANES_BINARY(Add)
PREGATE_LANES_BINARY(Sub)
PREGATE_LANES_BINARY(Mul)
PREGATE_LANES_BINARY(Div)
PREGATE_LANES_BINARY(Max)  // the second where one is NaN (x86)
PREGATE_LANES_BINARY(Min)
#undef PREGATE_LANES_BINARY

// a * b + c, rounded once where the target can.
HWY_INLINE Lanes MulAdd(const Lanes& a, const Lanes& b, const Lanes& c) {
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) r.part[i] = hn::MulAdd(a.part[i], b.part[i], c.part[i]);
  return r;
}

// Rounds each to the nearest bf16, ties to even; as Bf16Bits of rounding.h.
HWY_INLINE Lanes RoundToBf16(const Lanes& x) {
  const BitsTag bits;
  Lanes r;
  for (size_t i = 0; i < kParts; ++i) {
    const auto u = hn::BitCast(bits, x.part[i]);
    const auto high = hn::ShiftRight<16>(u);
    const auto odd = hn::And(high, hn::Set(bits, 1u));
    const auto rounded = hn::Add(hn::Add(u, hn::Set(bits, 0x7FFFu)), odd);
    const auto nan = hn::Or(u, hn::Set(bits, 0x400000u));
    const auto is_nan = hn::RebindMask(bits, hn::IsNaN(x.part[i]));
    const auto kept = hn::IfThenElse(is_nan, nan, rounded);
    r.part[i] = hn::BitCast(FloatTag(), hn::And(kept, hn::Set(bits, 0xFFFF0000u)));
  }
  return r;
}

// Folded in halves, always in this order.
HWY_INLINE float SumOf(const Lanes& x) {
  float s[kLanes];
  Store(x, s);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) s[i] += s[i + half];
  }
  return s[0];
}

HWY_INLINE float MaxOf(const Lanes& x) {
  auto top = x.part[0];
  for (size_t i = 1; i < kParts; ++i) top = hn::Max(top, x.part[i]);
  return hn::GetLane(hn::MaxOfLanes(FloatTag(), top));
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
