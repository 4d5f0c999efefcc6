// What an optimal cache would have loaded: for streams that are known to their end (simulations), and
// for the steps that a cell has just run.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate::scheduler {

// The offline optimum for a stream of references: evict what is used again last (Belady, 1966). Hits
// of a cache with `slots` slots that starts empty and loads what it misses. REQUIRES: units are
// 0 .. num_units-1.
int64_t OptimalHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots);

// Of a window of steps: shares of references (one expert that a step names) that took no load.
struct Reuse {
  double ratio = 1;
  double optimal_ratio = 1;  // of a cache that knew the steps to come
  bool operator==(const Reuse&) const = default;
};

// Collects the order in which steps named experts, and what was loaded meanwhile. The optimum is that
// of whole experts, and begins with what was resident as the window began. Not thread-safe.
class ReuseWindow {
 public:
  // A new epoch; 0 slots: everything fits, nothing is collected.
  void Begin(int32_t num_experts, int32_t expert_slots, absl::Span<const ExpertId> resident);
  // A step's experts, and units that began to load since the last call, of `num_layers` an expert.
  void OnStep(absl::Span<const ExpertId> named, int64_t units_loaded, int32_t num_layers,
              absl::Span<const ExpertId> resident);
  // Of the last whole window; of none yet: 1.
  const Reuse& reuse() const { return reuse_; }

 private:
  void Close(absl::Span<const ExpertId> resident);

  int32_t num_experts_ = 0;
  int32_t slots_ = 0;
  std::vector<int32_t> references_;  // the first num_initial_ are what was resident
  int64_t num_initial_ = 0;
  double loads_ = 0;  // experts
  Reuse reuse_;
};

}  // namespace pregate::scheduler
