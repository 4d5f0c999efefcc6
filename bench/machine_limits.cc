#include "bench/machine_limits.h"

#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/machine_limits.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

uint64_t ReadPart(const uint32_t* data, size_t n) {
  const hn::ScalableTag<uint32_t> d;
  const size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (size_t i = 0; i < n; i += 4 * lanes) {
    hwy::Prefetch(data + i + 256);
    a = hn::Xor(a, hn::LoadU(d, data + i));
    b = hn::Xor(b, hn::LoadU(d, data + i + lanes));
    c = hn::Xor(c, hn::LoadU(d, data + i + 2 * lanes));
    e = hn::Xor(e, hn::LoadU(d, data + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Xor(hn::Xor(a, b), hn::Xor(c, e))));
}

// Returns the operations of one round.
int64_t MultiplyAddPart(int64_t rounds, float* sink) {
  constexpr int kChains = 10;  // enough to cover the latency of every processor met so far
  const hn::ScalableTag<float> d;
  hn::Vec<decltype(d)> sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = hn::Set(d, static_cast<float>(c));
  const auto x = hn::Set(d, 0.999f), y = hn::Set(d, 0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (int c = 0; c < kChains; ++c) sum[c] = hn::MulAdd(sum[c], x, y);
  }
  auto total = sum[0];
  for (int c = 1; c < kChains; ++c) total = hn::Add(total, sum[c]);
  *sink = hn::GetLane(hn::SumOfLanes(d, total));
  return int64_t{2} * kChains * static_cast<int64_t>(hn::Lanes(d));
}

}  // namespace pregate::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::bench {

HWY_EXPORT(ReadPart);
HWY_EXPORT(MultiplyAddPart);

uint64_t ReadMemory(cpu::ThreadPool& pool, const void* data, size_t bytes) {
  constexpr size_t kPiece = 64 << 10;
  std::vector<uint64_t> sums(pool.threads());
  pool.Run(static_cast<int64_t>(bytes / kPiece), [&](int64_t i, int thread) {
    sums[thread] ^= HWY_DYNAMIC_DISPATCH(ReadPart)(
        static_cast<const uint32_t*>(data) + i * (kPiece / 4), kPiece / 4);
  });
  uint64_t all = 0;
  for (const uint64_t s : sums) all ^= s;
  return all;
}

double MultiplyAdd(cpu::ThreadPool& pool, int64_t rounds) {
  std::vector<float> sinks(pool.threads() * 16);
  std::vector<int64_t> operations(pool.threads() * 8);
  pool.Run(pool.threads(), [&](int64_t i, int) {
    operations[i * 8] = HWY_DYNAMIC_DISPATCH(MultiplyAddPart)(rounds, &sinks[i * 16]);
  });
  double total = 0;
  for (const int64_t n : operations) total += static_cast<double>(n) * rounds;
  return total;
}

}  // namespace pregate::bench
#endif  // HWY_ONCE
