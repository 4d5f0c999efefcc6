// Filters and draws of common/step/sampling.h for one row of logits.
#pragma once

#include <cstdint>
#include <vector>

#include "common/device/layer.h"
#include "common/step/sampling.h"

namespace pregate::cpu {

// Reused from row to row; grows to the vocabulary once.
class Sampler {
 public:
  void Reserve(int vocab_size);
  // For row r of args. REQUIRES: finite logits, vocab_size > 0, reserved; some token may be drawn.
  int32_t Sample(const float* logits, int vocab_size, const SampleArgs& args, int r);

 private:
  // Ids that pass have x > value, or x == value and id <= this id.
  struct Cut {
    float value = 0;
    int64_t id = 0;
    bool Passes(float x, int64_t i) const { return x > value || (x == value && i <= id); }
  };
  void Adjust(const float* logits, const SampleArgs& args, int r);
  void Penalize(const uint32_t* seen, const uint16_t* counts, const SamplingParams& params);
  Cut TopK(Cut cut, int64_t k, float top);
  Cut TopP(Cut cut, double p, float top);
  Cut MinP(Cut cut, float min_p, float top) const;
  template <class Weight>
  Cut CutAt(const Cut& cut, double goal, float top, Weight weight);

  std::vector<float> x_;        // [vocab] logits as adjusted, after temperature
  std::vector<float> weights_;  // [vocab] exp(x - top)
  std::vector<double> buckets_;
  std::vector<int64_t> candidates_;  // ids in the bucket where a filter cuts
  int64_t n_ = 0;                    // vocab of the row at hand
};

}  // namespace pregate::cpu
