// The worker in virtual time. A step takes its fixed and per-token costs, spread evenly over the
// layers, and waits where a layer's units are not there; loads go on beneath all of it.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "scheduler_service/engine/links.h"
#include "sim/agenda.h"
#include "sim/cost_file.h"
#include "sim/expert_cache.h"
#include "sim/sim_routes.h"

namespace pregate::sim {

struct WorkerShape {
  int32_t expert_slots = 0;  // times the layers: units
  int32_t kv_blocks = 0;
  int32_t seq_slots = 0;
  int32_t step_tokens = 0;
  int32_t context_tokens = 0;
};

struct StepCounts {
  int64_t steps = 0;  // with rows
  int64_t tokens = 0;
  int64_t experts = 0;  // distinct, summed over steps
  absl::Duration busy;
};

// Borrows all; not thread-safe. Steps run one after the other; plans wait.
class SimWorker final : public WorkerLink {
 public:
  SimWorker(Agenda* agenda, const Costs* costs, const SimRoutes* routes, const WorkerShape& shape);

  void SayHello();
  void Send(ToWorker message) override;

  const StepCounts& counts() const { return counts_; }
  CacheCounts cache_counts() const { return cache_.counts(); }
  // The units that steps named, in order, the first `references_max`; and loads until then.
  void RecordReferences(size_t references_max) { references_max_ = references_max; }
  const std::vector<int32_t>& references() const { return references_; }
  int64_t recorded_loads() const { return recorded_loads_; }

 private:
  struct Slot {
    SeqId seq_id = 0;
    uint64_t seed = 0;
    TokenId sample = 0;  // the last one, and its route
    ExpertId sample_route = kNoRoute;
  };
  // What a plan asks for, added up.
  struct Load {
    int32_t tokens = 0;
    int32_t emits = 0;
    double keys = 0;                // of all rows
    double pairs = 0;               // (token, key)
    std::vector<ExpertId> experts;  // ascending
  };

  void Begin();
  Load Apply(const StepPlan& plan, StepResult* result);
  absl::Time Run(const Load& load, absl::Time begin);
  void Record(int32_t layer, const std::vector<ExpertId>& experts);

  Agenda* const agenda_;
  const Costs* const costs_;
  const SimRoutes* const routes_;
  const WorkerShape shape_;
  ExpertCache cache_;
  std::vector<Slot> slots_;
  std::deque<std::shared_ptr<const StepPlan>> plans_;
  bool busy_ = false;
  StepCounts counts_;
  size_t references_max_ = 0;
  std::vector<int32_t> references_;
  int64_t recorded_loads_ = 0;
};

}  // namespace pregate::sim
