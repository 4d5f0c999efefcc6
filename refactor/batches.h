// Which windows a step of tuning takes. Pure: of seed and step alone, so that a run may stop anywhere.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "refactor/corpus.h"

namespace pregate {

// Windows without end, in a fresh order each time all have been seen; the order of pass k is of seed
// and k. REQUIRES: for At, some windows.
class Passes {
 public:
  Passes(std::vector<int32_t> windows, uint64_t seed) : windows_(std::move(windows)), seed_(seed) {}

  bool empty() const { return windows_.empty(); }
  int32_t At(int64_t i);

 private:
  void Shuffle(int64_t pass);

  std::vector<int32_t> windows_, order_;
  const uint64_t seed_;
  int64_t pass_ = -1;
};

// The domains' windows, each domain equally often whatever its length: an expert of little text is
// asked as much as others are. Where the last windows of the corpus are the parent's (sample.h), a
// share `text` of all that are taken is text, evenly spread, however many there are of each.
class Batches {
 public:
  Batches(const Corpus& corpus, int sampled_windows, double text, uint64_t seed);

  std::vector<int32_t> Of(int64_t step, int size);

 private:
  int64_t TextBefore(int64_t i) const;

  Passes text_, sampled_;
  const double share_;
};

}  // namespace pregate
