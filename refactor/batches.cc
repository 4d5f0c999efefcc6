#include "refactor/batches.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace pregate {
namespace {

// Of the first `num` windows.
std::vector<int32_t> EvenlyByDomain(const Corpus& corpus, int num) {
  const std::vector<std::vector<int32_t>> by_domain = corpus.WindowsByDomain(num);
  size_t most = 0;
  for (const auto& windows : by_domain) most = std::max(most, windows.size());
  std::vector<int32_t> even;
  for (const auto& windows : by_domain) {
    for (size_t i = 0; i < most && !windows.empty(); ++i) {
      even.push_back(windows[i % windows.size()]);
    }
  }
  return even;
}

std::vector<int32_t> LastWindows(int all, int num) {
  std::vector<int32_t> windows(num);
  std::iota(windows.begin(), windows.end(), all - num);
  return windows;
}

}  // namespace

int32_t Passes::At(int64_t i) {
  const auto n = static_cast<int64_t>(windows_.size());
  if (i / n != pass_) Shuffle(i / n);
  return order_[i % n];
}

void Passes::Shuffle(int64_t pass) {
  pass_ = pass;
  order_ = windows_;
  std::mt19937_64 random(seed_ + static_cast<uint64_t>(pass));
  std::shuffle(order_.begin(), order_.end(), random);
}

Batches::Batches(const Corpus& corpus, int sampled_windows, double text, uint64_t seed)
    : text_(EvenlyByDomain(corpus, corpus.num_windows() - sampled_windows), seed),
      sampled_(LastWindows(corpus.num_windows(), sampled_windows), seed),
      share_(sampled_windows == 0 ? 1 : text) {}

// Of the first i windows taken.
int64_t Batches::TextBefore(int64_t i) const {
  return static_cast<int64_t>(std::ceil(static_cast<double>(i) * share_));
}

std::vector<int32_t> Batches::Of(int64_t step, int size) {
  std::vector<int32_t> batch;
  for (int64_t i = step * size; i < (step + 1) * size; ++i) {
    const int64_t text = TextBefore(i);
    batch.push_back(TextBefore(i + 1) > text ? text_.At(text) : sampled_.At(i - text));
  }
  return batch;
}

}  // namespace pregate
