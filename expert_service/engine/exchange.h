// How expert rows travel between the ranks of one epoch (docs/LIFE_OF_A_TOKEN.md): one plan a step
// serves every layer.
//
//   routes of the plan's tokens ─ all-gather once a step ─▶ exchange plan
//   layer:  act ─▶ wire ─ dispatch ─▶ wire ─▶ act of received rows ─▶ units ─▶ own
//           own ─▶ round ─▶ wire ─ combine ─▶ wire ─▶ own of the rank's tokens
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/collective/collective.h"
#include "common/device/device.h"
#include "common/step/control.h"
#include "expert_service/core/exchange_plan.h"

namespace pregate {

// One token of the step's plan, in plan order, as a rank sees it.
struct PlanToken {
  int32_t home = 0;           // index in the members
  ExpertId route = kNoRoute;  // kNoRoute: another rank's, or one that does not run
};

// What one step's exchange took. `host_time` is what the thread spent in it, waiting for peers
// included; zero where the collective only enqueues.
struct ExchangeUse {
  struct Span {
    absl::Time begin, end;
  };
  absl::Duration host_time;
  std::vector<Span> spans;  // of which that is the sum
  int64_t bytes_sent = 0;   // payload to other ranks
  int64_t bytes_received = 0;
};

// Not thread-safe. Device, collective and clock outlive it.
class Exchange {
 public:
  // Placement over indexes in the members, as the collective's ranks. Steps of at most `tokens_max`
  // tokens in all.
  static absl::StatusOr<std::unique_ptr<Exchange>> Create(Device* device, Collective* collective,
                                                          Placement placement, int hidden,
                                                          const StepTypes& types, int tokens_max,
                                                          Clock* clock);

  // Every rank calls it with the same plan; each token's home knows its route.
  absl::Status BeginStep(absl::Span<const PlanToken> tokens);
  // Of the rows that this rank runs for all.
  const std::vector<ExpertId>& expert_set() const { return expert_set_; }
  // No rank has a token: there is nothing to do.
  bool idle() const { return num_running_ == 0; }

  // act: of the rank's tokens, in plan order. Fills received().
  absl::Status Dispatch(const void* act);
  RowCount received_rows() const;
  const void* received() const { return received_act_.as<void>(); }
  ExpertGroups groups() const;
  float* received_own() const { return received_own_.as<float>(); }
  // Blocks until what the group has enqueued is done, and tells a dead peer from a slow one.
  absl::Status Wait() { return collective_.Wait(); }
  // Since BeginStep, which is part of it.
  const ExchangeUse& use() const { return use_; }
  // Returns received_own to where its rows came from: own [rank's tokens, hidden].
  absl::Status Combine(float* own);

 private:
  Exchange(Device* device, Collective* collective, Placement placement, int hidden,
           const StepTypes& types, int tokens_max, Clock* clock);
  absl::Status Allocate();
  absl::Status GatherRoutes(absl::Span<const PlanToken> tokens);
  absl::Status AllToAll(absl::Span<const int32_t> send_offsets,
                        absl::Span<const int32_t> recv_offsets);
  // Runs `operation` of the collective and adds it to use_.
  absl::Status Measure(int64_t bytes_received, absl::FunctionRef<absl::Status()> operation);
  void Upload();
  RowCount Rows(int32_t which, int32_t num) const;
  absl::Span<const int32_t> send_offsets() const;
  absl::Span<const int32_t> recv_offsets() const;
  int32_t num_sent() const { return send_offsets().back(); }
  int32_t num_received() const { return recv_offsets().back(); }

  Device& device_;
  Collective& collective_;
  const Placement placement_;
  const int hidden_;
  const StepTypes types_;
  const int tokens_max_;
  const size_t row_bytes_;
  Clock& clock_;

  ExchangePlan plan_;
  ExchangeUse use_;
  std::vector<ExpertId> expert_set_;
  int32_t num_running_ = 0;
  std::vector<int32_t> mine_, all_;      // routes of the plan's tokens: [tokens], [world, tokens]
  std::vector<int32_t> homes_, routes_;  // of those that run
  std::vector<int32_t> staging_;
  DeviceBuffer arrays_;  // counts, order, group offsets, group order
  DeviceBuffer wire_out_, wire_in_;
  DeviceBuffer received_act_, received_own_;
};

}  // namespace pregate
