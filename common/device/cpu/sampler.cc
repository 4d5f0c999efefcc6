#include "common/device/cpu/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/device/cpu/kernels.h"

namespace pregate::cpu {
namespace {

// Buckets are 1/64 wide, the first at the largest logit; the last one takes all that is further
// below.
constexpr int kNumBuckets = 2048;
constexpr float kBucketsPerUnit = 64;

int BucketOf(float x, float top) {
  return static_cast<int>(std::min<float>((top - x) * kBucketsPerUnit, kNumBuckets - 1));
}

}  // namespace

void Sampler::Reserve(int vocab_size) {
  if (x_.size() >= static_cast<size_t>(vocab_size)) return;
  x_.resize(vocab_size);
  weights_.resize(vocab_size);
  candidates_.reserve(vocab_size);
  buckets_.resize(kNumBuckets);
}

int32_t Sampler::Sample(const float* logits, int vocab_size, const SampleArgs& args, int r) {
  const int64_t slot = args.seq_slots[r];
  const SamplingParams& params = args.params[slot];
  n_ = vocab_size;
  if (args.masked[r] != 0 || args.biases[slot].num > 0 || params.depends_on_tokens()) {
    Adjust(logits, args, r);
    logits = x_.data();
  }
  const int64_t greedy = ArgMaxRow(logits, n_);
  if (params.temperature == 0) return static_cast<int32_t>(greedy);
  DivideRow(logits, n_, params.temperature, x_.data());
  const float top = x_[greedy];
  if (!std::isfinite(top)) return static_cast<int32_t>(greedy);  // a temperature next to zero
  Cut cut = {std::numeric_limits<float>::lowest(), n_};          // infinity: not to be drawn
  if (params.top_k > 0 && params.top_k < n_) cut = TopK(cut, params.top_k, top);
  if (params.top_p < 1) cut = TopP(cut, params.top_p, top);
  if (params.min_p > 0) cut = MinP(cut, params.min_p, top);
  return static_cast<int32_t>(
      GumbelArgMax(x_.data(), n_, cut.value, cut.id, greedy, args.seeds[slot], args.positions[r]));
}

// Mask, bans and bias, then the penalties.
void Sampler::Adjust(const float* logits, const SampleArgs& args, int r) {
  const int64_t slot = args.seq_slots[r], words = SeenWords(n_);
  const bool masked = args.masked[r] != 0;
  const uint32_t* allowed = args.allowed + slot * words;
  for (int64_t id = 0; id < n_; ++id) {
    const bool out = masked && (allowed[id / 32] >> (id % 32) & 1) == 0;
    x_[id] = out ? -std::numeric_limits<float>::infinity() : logits[id];
  }
  const TokenBiases& biases = args.biases[slot];
  const bool early = !masked && args.positions[r] < biases.early_until;
  for (int32_t i = 0; i < biases.num; ++i) {
    x_[biases.of[i].token] += early ? biases.of[i].early_bias : biases.of[i].bias;
  }
  const SamplingParams& params = args.params[slot];
  if (!params.depends_on_tokens()) return;
  Penalize(args.history.seen + slot * words, args.history.counts + slot * words * 32, params);
}

// What was generated is among what was seen.
void Sampler::Penalize(const uint32_t* seen, const uint16_t* counts, const SamplingParams& params) {
  const float penalty = params.repetition_penalty;
  for (int64_t word = 0; word < SeenWords(n_); ++word) {
    for (uint32_t bits = seen[word]; bits != 0; bits &= bits - 1) {
      const int64_t id = word * 32 + std::countr_zero(bits);
      float& x = x_[id];
      x = x > 0 ? x / penalty : x * penalty;
      const float count = counts[id];
      if (count > 0) x -= count * params.frequency_penalty + params.presence_penalty;
    }
  }
}

// Walks down from the largest x, ties by id, until the weights reach `goal`: finds the bucket by
// sums, then sorts that bucket alone. At least the first id passes.
template <class Weight>
Sampler::Cut Sampler::CutAt(const Cut& cut, double goal, float top, Weight weight) {
  std::fill(buckets_.begin(), buckets_.end(), 0.0);
  for (int64_t i = 0; i < n_; ++i) {
    if (cut.Passes(x_[i], i)) buckets_[BucketOf(x_[i], top)] += weight(i);
  }
  double before = 0;
  int bucket = 0;
  while (bucket < kNumBuckets - 1 && before + buckets_[bucket] < goal) before += buckets_[bucket++];
  candidates_.clear();
  for (int64_t i = 0; i < n_; ++i) {
    if (BucketOf(x_[i], top) == bucket && cut.Passes(x_[i], i)) candidates_.push_back(i);
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [&](int64_t a, int64_t b) { return x_[a] > x_[b] || (x_[a] == x_[b] && a < b); });
  for (const int64_t id : candidates_) {
    before += weight(id);
    if (before >= goal) return {x_[id], id};
  }
  return cut;  // rounding kept the sum below the goal: nothing is cut
}

Sampler::Cut Sampler::TopK(Cut cut, int64_t k, float top) {
  return CutAt(cut, static_cast<double>(k), top, [](int64_t) { return 1.0; });
}

Sampler::Cut Sampler::TopP(Cut cut, double p, float top) {
  ExpRow(x_.data(), n_, top, weights_.data());
  double total = 0;
  for (int64_t i = 0; i < n_; ++i) {
    if (cut.Passes(x_[i], i)) total += weights_[i];
  }
  return CutAt(cut, p * total, top, [&](int64_t i) { return double{weights_[i]}; });
}

Sampler::Cut Sampler::MinP(Cut cut, float min_p, float top) const {
  const float lowest = top + std::log(min_p);
  return lowest > cut.value ? Cut{lowest, n_} : cut;
}

}  // namespace pregate::cpu
