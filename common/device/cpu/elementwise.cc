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

HWY_INLINE Lanes Round(DType dtype, const Lanes& x) {
  return dtype == DType::kBF16 ? RoundToBf16(x) : x;
}

// The remainder of a row goes through the same lanes as its body, so a value's bits do not depend
// on where in the row it stands.
void RmsNormRow(const float* x, const float* weight, int width, float eps, DType dtype,
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
    StoreFirst(Round(dtype, Mul(v, LoadFirst(weight + i, n - i))), out + i, n - i);
  }
}

void ActivateRow(RouterActivation activation, const float* x, int64_t width, DType dtype,
                 float* out) {
  const size_t n = width;
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes v = LoadFirst(x + i, n - i);
    const Lanes y = activation == RouterActivation::kSilu ? Silu(v) : Max(Set(0.0f), v);
    StoreFirst(Round(dtype, y), out + i, n - i);
  }
}

void AddFfnRow(const float* shared, const float* own, int64_t width, DType dtype, float* h) {
  const size_t n = width;
  for (size_t i = 0; i < n; i += kLanes) {
    Lanes y = LoadFirst(shared + i, n - i);
    if (own != nullptr) y = Add(y, Round(dtype, LoadFirst(own + i, n - i)));
    StoreFirst(Add(LoadFirst(h + i, n - i), y), h + i, n - i);
  }
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(ActivateRow);
HWY_EXPORT(AddFfnRow);

void RmsNormRow(const float* x, const float* weight, int width, float eps, DType dtype,
                float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormRow)(x, weight, width, eps, dtype, out);
}
void ActivateRow(RouterActivation activation, const float* x, int64_t width, DType dtype,
                 float* out) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(activation, x, width, dtype, out);
}
void AddFfnRow(const float* shared, const float* own, int64_t width, DType dtype, float* h) {
  HWY_DYNAMIC_DISPATCH(AddFfnRow)(shared, own, width, dtype, h);
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE
