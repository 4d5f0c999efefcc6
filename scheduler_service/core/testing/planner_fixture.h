// What the tests of policies for experts that do not fit begin with: five experts, two of which fit,
// and sequences by their routes.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "scheduler_service/core/batch.h"

namespace pregate::scheduler {

class PlannerFixture : public testing::Test {
 protected:
  static constexpr int32_t kLayers = 10;

  PlannerFixture() {
    batch_.Reset({{0, 1000}}, 16);
    SetResident({0, 1});
  }
  void SetResident(std::initializer_list<ExpertId> resident) {
    experts_.assign(5, {{0}, 0, false, kLayers});
    for (ExpertId e : resident) SetUnits(e, kLayers);
  }
  // So many of the expert's units are there.
  void SetUnits(ExpertId e, int32_t units) {
    experts_[e] = {{0}, units, units == kLayers, kLayers - units};
  }
  // "0001" is a prompt of four tokens with these routes.
  Sequence* Enqueue(const std::string& routes) {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    s->prompt_len = static_cast<int32_t>(routes.size());
    s->max_len = s->prompt_len + 100;
    for (char c : routes) s->Append(9, c - '0');
    batch_.Enqueue(s.get());
    sequences_.push_back(std::move(s));
    return sequences_.back().get();
  }
  // A sequence that has run and whose next token goes to `route`.
  Sequence* Decoding(ExpertId route) {
    Sequence* s = Enqueue("0");
    batch_.Commit(FcfsPlanner().Propose(View()), 1, step_++);
    for (const auto& each : sequences_) {
      if (each->samples_in_flight > 0) each->Append(9, route);
      each->samples_in_flight = 0;
    }
    return s;
  }
  PlannerView View() {
    PlannerView base = base_;
    base.step_id = step_;
    base.step_tokens = 64;
    base.preemptions_max = 2;
    base.experts = experts_;
    base.expert_slots = expert_slots_;
    return batch_.View(base);
  }
  // Ids of the sequences that have a row.
  static std::vector<SeqId> RowsOf(const Proposal& proposal) {
    std::vector<SeqId> ids;
    for (const ProposedRow& row : proposal.rows) ids.push_back(row.seq_id);
    return ids;
  }

  PlannerView base_;  // what a test's own policy looks at beside
  int32_t expert_slots_ = 2;
  Batch batch_{/*prefix_cache=*/false};  // prefix_cache_test.cc has it
  std::vector<ExpertPlace> experts_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepId step_ = 1;
};

}  // namespace pregate::scheduler
