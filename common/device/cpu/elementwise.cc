#include <algorithm>
#include <cmath>

#include "common/device/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "common/device/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "common/device/cpu/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

template <class Type>
HWY_INLINE Lanes Round(Type type, const Lanes& x) {
  return type == Type::kBF16 ? RoundToBf16(x) : x;
}

// The remainder of a row goes through the same lanes as its body, so a value's bits do not depend
// on where in the row it stands.
void RmsNormRow(const float* x, const float* weight, int width, float eps, ActType act,
                float* out) {
  const size_t n = width;
  Lanes squares = Set(0.0f);
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes v = LoadFirst(x + i, n - i);
    squares = MulAdd(v, v, squares);
  }
  const Lanes inverse = Set(1.0f / std::sqrt(SumOf(squares) / static_cast<float>(width) + eps));
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes v = Mul(LoadFirst(x + i, n - i), inverse);
    StoreFirst(Round(act, Mul(v, LoadFirst(weight + i, n - i))), out + i, n - i);
  }
}

void ActivateRow(RouterActivation activation, const float* x, int64_t width, ActType act,
                 float* out) {
  const size_t n = width;
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes v = LoadFirst(x + i, n - i);
    const Lanes y = activation == RouterActivation::kSilu ? Silu(v) : Max(Set(0.0f), v);
    StoreFirst(Round(act, y), out + i, n - i);
  }
}

void AddFfnRow(const float* shared, const float* own, int64_t width, WireType wire, float scale,
               float* h) {
  const size_t n = width;
  for (size_t i = 0; i < n; i += kLanes) {
    Lanes y = shared == nullptr ? Set(0.0f) : LoadFirst(shared + i, n - i);
    if (own != nullptr) y = Add(y, Round(wire, LoadFirst(own + i, n - i)));
    StoreFirst(Add(LoadFirst(h + i, n - i), Mul(Set(scale), y)), h + i, n - i);
  }
}

std::string NumericsClass() { return HWY_NATIVE_FMA ? "fma" : hwy::TargetName(HWY_TARGET); }
std::string TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(ActivateRow);
HWY_EXPORT(AddFfnRow);
HWY_EXPORT(NumericsClass);
HWY_EXPORT(TargetName);

void RmsNormRow(const float* x, const float* weight, int width, float eps, ActType act,
                float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormRow)(x, weight, width, eps, act, out);
}
void ActivateRow(RouterActivation activation, const float* x, int64_t width, ActType act,
                 float* out) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(activation, x, width, act, out);
}
void AddFfnRow(const float* shared, const float* own, int64_t width, WireType wire, float scale,
               float* h) {
  HWY_DYNAMIC_DISPATCH(AddFfnRow)(shared, own, width, wire, scale, h);
}
std::string NumericsClass() { return HWY_DYNAMIC_DISPATCH(NumericsClass)(); }
std::string TargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace pregate::cpu
#endif  // HWY_ONCE
