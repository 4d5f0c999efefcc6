#include <algorithm>
#include <cmath>
#include <limits>

#include "common/device/cpu/kernels.h"
#include "common/step/sampling.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "common/device/cpu/vocab_kernel.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "common/device/cpu/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

bool AllFinite(const float* x, int64_t n) {
  // x - x is 0 for finite x and NaN otherwise, and NaN stays.
  Lanes sum = Set(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Lanes v = LoadFirst(x + i, n - i);
    sum = Add(sum, Sub(v, v));
  }
  return SumOf(sum) == 0;
}

float MaxRow(const float* x, int64_t n) {
  Lanes top = Set(kLowest);
  for (int64_t i = 0; i < n; i += kLanes) top = Max(top, LoadFirst(x + i, n - i, kLowest));
  return MaxOf(top);
}

int64_t ArgMaxRow(const float* x, int64_t n) {
  const float* at = std::find(x, x + n, MaxRow(x, n));
  return at == x + n ? 0 : at - x;
}

double SumExp(const float* x, int64_t n, float top) {
  constexpr int64_t kBlock = 1024;  // summed in f32 lanes; blocks are summed in double
  const Lanes shift = Set(top);
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    Lanes part = Set(0.0f);
    for (int64_t i = begin; i < end; i += kLanes) {
      part = Add(part, Exp(Sub(LoadFirst(x + i, end - i, kLowest), shift)));
    }
    sum += SumOf(part);
  }
  return sum;
}

void ExpRow(const float* x, int64_t n, float top, float* out) {
  const Lanes shift = Set(top);
  for (int64_t i = 0; i < n; i += kLanes) {
    StoreFirst(Exp(Sub(LoadFirst(x + i, n - i), shift)), out + i, n - i);
  }
}

void DivideRow(const float* x, int64_t n, float temperature, float* out) {
  const Lanes divisor = Set(temperature);
  for (int64_t i = 0; i < n; i += kLanes) {
    StoreFirst(Div(LoadFirst(x + i, n - i), divisor), out + i, n - i);
  }
}

// -log(-log(u)) for the 16 ids from `first`, a multiple of 16.
HWY_INLINE Lanes Gumbel(uint64_t seed, uint64_t position, int64_t first) {
  float u[kLanes];
  for (size_t b = 0; b < kLanes / 4; ++b) {
    const PhiloxBlock block = Philox(seed, position, first / 4 + b);
    for (int lane = 0; lane < 4; ++lane) u[b * 4 + lane] = UniformOpen(block.lane[lane]);
  }
  const Lanes zero = Set(0.0f);
  return Sub(zero, Log(Sub(zero, Log(Load(u)))));
}

// No id of a group can win unless its largest x plus the largest possible noise reaches the best
// key so far; addition rounds monotonically, so the bound is exact.
int64_t GumbelArgMax(const float* x, int64_t n, float cut, int64_t cut_id, int64_t start,
                     uint64_t seed, uint64_t position) {
  constexpr float kNoiseMax = 16.7f;  // -log(-log(1 - 2^-24)) = 16.64
  float best_key = kLowest;
  int64_t best = start;
  const auto visit = [&](int64_t first) {
    float key[kLanes];
    const Lanes v = LoadFirst(x + first, n - first, kLowest);
    Store(Add(v, Gumbel(seed, position, first)), key);
    for (int64_t id = first; id < std::min<int64_t>(n, first + kLanes); ++id) {
      if (x[id] < cut || (x[id] == cut && id > cut_id)) continue;
      const float k = key[id - first];
      if (k > best_key || (k == best_key && id < best)) best = id, best_key = k;
    }
  };
  visit(start - start % kLanes);
  for (int64_t first = 0; first < n; first += kLanes) {
    const float top = MaxOf(LoadFirst(x + first, n - first, kLowest));
    if (top >= cut && top + kNoiseMax >= best_key) visit(first);
  }
  return best;
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(AllFinite);
HWY_EXPORT(ArgMaxRow);
HWY_EXPORT(SumExp);
HWY_EXPORT(ExpRow);
HWY_EXPORT(DivideRow);
HWY_EXPORT(GumbelArgMax);

bool AllFinite(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(AllFinite)(x, n); }
int64_t ArgMaxRow(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(ArgMaxRow)(x, n); }
double SumExp(const float* x, int64_t n, float top) {
  return HWY_DYNAMIC_DISPATCH(SumExp)(x, n, top);
}
void ExpRow(const float* x, int64_t n, float top, float* out) {
  HWY_DYNAMIC_DISPATCH(ExpRow)(x, n, top, out);
}
void DivideRow(const float* x, int64_t n, float temperature, float* out) {
  HWY_DYNAMIC_DISPATCH(DivideRow)(x, n, temperature, out);
}
int64_t GumbelArgMax(const float* x, int64_t n, float cut, int64_t cut_id, int64_t start,
                     uint64_t seed, uint64_t position) {
  return HWY_DYNAMIC_DISPATCH(GumbelArgMax)(x, n, cut, cut_id, start, seed, position);
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE
