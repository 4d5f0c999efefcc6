#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "common/device/reference/reference_ops.h"

namespace pregate::reference {
namespace {

bool HasBit(const uint32_t* bits, int32_t id) { return (bits[id / 32] >> (id % 32) & 1) != 0; }

// The row's logits with mask, bans, bias and penalties.
std::vector<float> AdjustedLogits(const float* logits, int vocab_size, const SampleArgs& args,
                                  int r) {
  const int64_t slot = args.seq_slots[r], words = SeenWords(vocab_size);
  const SamplingParams& params = args.params[slot];
  const TokenBiases& biases = args.biases[slot];
  const bool masked = args.masked[r] != 0;
  const bool early = !masked && args.positions[r] < biases.early_until;
  std::vector<float> x(logits, logits + vocab_size);
  for (int id = 0; id < vocab_size; ++id) {
    if (masked && !HasBit(args.allowed + slot * words, id)) x[id] = -INFINITY;
  }
  for (int i = 0; i < biases.num; ++i) {
    x[biases.of[i].token] += early ? biases.of[i].early_bias : biases.of[i].bias;
  }
  for (int id = 0; id < vocab_size; ++id) {
    if (!HasBit(args.history.seen + slot * words, id)) continue;
    const float penalty = params.repetition_penalty;
    x[id] = x[id] > 0 ? x[id] / penalty : x[id] * penalty;
    const float count = args.history.counts[slot * words * 32 + id];
    if (count > 0) x[id] -= count * params.frequency_penalty + params.presence_penalty;
  }
  return x;
}

float Gumbel(uint64_t seed, uint64_t position, int32_t id) {
  const PhiloxBlock block = Philox(seed, position, static_cast<uint64_t>(id) / 4);
  return -std::log(-std::log(UniformOpen(block.lane[id % 4])));
}

// How many of the descending `sorted` survive top-k, top-p and min-p, in that order.
size_t CountKept(const std::vector<float>& sorted, const SamplingParams& params) {
  size_t kept = sorted.size();
  if (params.top_k > 0) kept = std::min<size_t>(kept, params.top_k);
  std::vector<double> weight(kept);
  for (size_t i = 0; i < kept; ++i) weight[i] = std::exp(double{sorted[i]} - sorted[0]);
  if (params.top_p < 1) {
    const double goal = params.top_p * std::accumulate(weight.begin(), weight.end(), 0.0);
    double before = 0;
    size_t n = 0;
    while (n < kept && (n == 0 || before < goal)) before += weight[n++];
    kept = n;
  }
  while (kept > 1 && weight[kept - 1] < params.min_p) --kept;
  return kept;
}

}  // namespace

int32_t SampleToken(const float* logits, int vocab_size, const SampleArgs& args, int r) {
  const SamplingParams& params = args.params[args.seq_slots[r]];
  std::vector<float> x = AdjustedLogits(logits, vocab_size, args, r);
  if (params.temperature == 0) {
    return static_cast<int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
  }
  for (float& value : x) value /= params.temperature;
  std::vector<int32_t> ids;
  for (int id = 0; id < vocab_size; ++id) {
    if (x[id] > -INFINITY) ids.push_back(id);
  }
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
  std::vector<float> sorted(ids.size());
  std::transform(ids.begin(), ids.end(), sorted.begin(), [&](int32_t id) { return x[id]; });
  ids.resize(CountKept(sorted, params));
  std::sort(ids.begin(), ids.end());
  int32_t best = ids[0];
  float best_key = -INFINITY;
  for (const int32_t id : ids) {
    const float key = x[id] + Gumbel(args.seeds[args.seq_slots[r]], args.positions[r], id);
    if (key > best_key) best = id, best_key = key;
  }
  return best;
}

}  // namespace pregate::reference
