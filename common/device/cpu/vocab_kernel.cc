#include <algorithm>
#include <cmath>
#include <limits>

#include "common/device/cpu/kernels.h"

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

// Ids are drawn for in blocks of 4, as Philox delivers them, 16 blocks at a time.
constexpr int kBlockIds = 4;
constexpr int kBatchBlocks = 16;

// Philox of common/step/sampling.h for 16 vocabulary blocks, written so that the compiler
// vectorises it.
void PhiloxBatch(uint64_t seed, uint64_t position, const uint32_t* blocks,
                 uint32_t lane[kBlockIds][kBatchBlocks]) {
  for (int j = 0; j < kBatchBlocks; ++j) {
    lane[0][j] = blocks[j];
    lane[1][j] = 0;
    lane[2][j] = static_cast<uint32_t>(position);
    lane[3][j] = static_cast<uint32_t>(position >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int j = 0; j < kBatchBlocks; ++j) {
      const uint64_t p0 = uint64_t{0xD2511F53} * lane[0][j];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * lane[2][j];
      lane[0][j] = static_cast<uint32_t>(p1 >> 32) ^ lane[1][j] ^ k0;
      lane[2][j] = static_cast<uint32_t>(p0 >> 32) ^ lane[3][j] ^ k1;
      lane[1][j] = static_cast<uint32_t>(p1);
      lane[3][j] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

// -log(-log(u)) for u = UniformOpen(bits), of 16 draws. The 23 bits fit a signed conversion, which
// vectors have.
HWY_INLINE void GumbelNoise(const uint32_t* bits, float* noise) {
  for (size_t j = 0; j < kLanes; ++j) noise[j] = static_cast<float>(static_cast<int>(bits[j] >> 9));
  const Lanes u = Mul(Add(Load(noise), Set(0.5f)), Set(1.0f / 8388608.0f));
  const Lanes zero = Set(0.0f);
  Store(Sub(zero, Log(Sub(zero, Log(u)))), noise);
}

// The search for the largest x + noise.
struct GumbelSearch {
  const float* x;
  int64_t n;
  float cut;
  int64_t cut_id;
  uint64_t seed, position;
  int64_t best;
  float best_key = kLowest;
  uint32_t pending[kBatchBlocks] = {};
  int num_pending = 0;

  void Push(int64_t block) {
    pending[num_pending++] = static_cast<uint32_t>(block);
    if (num_pending == kBatchBlocks) Flush();
  }
  void Flush() {
    uint32_t bits[kBlockIds][kBatchBlocks];
    float noise[kBlockIds][kBatchBlocks];
    PhiloxBatch(seed, position, pending, bits);
    for (int lane = 0; lane < kBlockIds; ++lane) GumbelNoise(bits[lane], noise[lane]);
    for (int j = 0; j < num_pending; ++j) {
      const int64_t first = int64_t{pending[j]} * kBlockIds;
      for (int64_t id = first; id < std::min(n, first + kBlockIds); ++id) {
        Take(id, x[id] + noise[id - first][j]);
      }
    }
    num_pending = 0;
  }
  void Take(int64_t id, float key) {
    if (x[id] < cut || (x[id] == cut && id > cut_id)) return;
    if (key > best_key || (key == best_key && id < best)) best = id, best_key = key;
  }
};

// No id of a block can win unless its largest x plus the largest possible noise reaches the best
// key so far; addition rounds monotonically, so the bound is exact.
int64_t GumbelArgMax(const float* x, int64_t n, float cut, int64_t cut_id, int64_t start,
                     uint64_t seed, uint64_t position) {
  constexpr float kNoiseMax = 16.7f;  // -log(-log(1 - 2^-24)) = 16.64
  GumbelSearch search = {x, n, cut, cut_id, seed, position, start};
  search.Push(start / kBlockIds);
  search.Flush();
  for (int64_t first = 0; first < n; first += kBlockIds) {
    float top = x[first];
    for (int64_t id = first + 1; id < std::min(n, first + kBlockIds); ++id) {
      top = std::max(top, x[id]);
    }
    if (top >= cut && top + kNoiseMax >= search.best_key) search.Push(first / kBlockIds);
  }
  search.Flush();
  return search.best;
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
