#include "expert_service/engine/exchange.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "expert_service/core/step_bucket.h"

namespace pregate {
namespace {

// Of arrays_: two counts, then order, group order, group offsets.
constexpr int32_t kSent = 0, kReceived = 1, kHeader = 2;

}  // namespace

Exchange::Exchange(Device* device, Collective* collective, Placement placement, int hidden,
                   const StepTypes& types, int tokens_max, Clock* clock)
    : device_(*device),
      collective_(*collective),
      placement_(std::move(placement)),
      hidden_(hidden),
      types_(types),
      tokens_max_(tokens_max),
      row_bytes_(size_t(hidden) * ElementBytes(types.wire)),
      clock_(*clock) {}

absl::StatusOr<std::unique_ptr<Exchange>> Exchange::Create(Device* device, Collective* collective,
                                                           Placement placement, int hidden,
                                                           const StepTypes& types, int tokens_max,
                                                           Clock* clock) {
  std::unique_ptr<Exchange> exchange(
      new Exchange(device, collective, std::move(placement), hidden, types, tokens_max, clock));
  RETURN_IF_ERROR(exchange->Allocate());
  return exchange;
}

absl::Status Exchange::Allocate() {
  const size_t rows = tokens_max_, num_experts = placement_.ranks.size();
  staging_.resize(kHeader + 2 * rows + num_experts + 1);
  ASSIGN_OR_RETURN(arrays_, device_.Allocate(staging_.size() * sizeof(int32_t)));
  ASSIGN_OR_RETURN(wire_out_, device_.Allocate(rows * row_bytes_));
  ASSIGN_OR_RETURN(wire_in_, device_.Allocate(rows * row_bytes_));
  ASSIGN_OR_RETURN(received_act_, device_.Allocate(rows * hidden_ * device_.act_bytes(types_.act)));
  ASSIGN_OR_RETURN(received_own_, device_.Allocate(rows * hidden_ * sizeof(float)));
  return absl::OkStatus();
}

absl::Status Exchange::BeginStep(absl::Span<const PlanToken> tokens) {
  use_ = ExchangeUse();
  RETURN_IF_ERROR(GatherRoutes(tokens));
  num_running_ = static_cast<int32_t>(routes_.size());
  ASSIGN_OR_RETURN(plan_, MakeExchangePlan(homes_, routes_, placement_, collective_.world_size()));
  expert_set_.clear();
  const std::vector<int32_t>& offsets = plan_.group_offsets[collective_.rank()];
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    if (offsets[e + 1] > offsets[e]) expert_set_.push_back(static_cast<ExpertId>(e));
  }
  Upload();
  return absl::OkStatus();
}

// A token runs when its home says where: a row that failed there is left out by everyone.
absl::Status Exchange::GatherRoutes(absl::Span<const PlanToken> tokens) {
  mine_.clear();
  for (const PlanToken& token : tokens) mine_.push_back(token.route);
  all_.resize(tokens.size() * collective_.world_size());
  const size_t bytes = mine_.size() * sizeof(int32_t);
  RETURN_IF_ERROR(Measure((collective_.world_size() - 1) * bytes,
                          [&] { return collective_.AllGather(mine_.data(), bytes, all_.data()); }));
  homes_.clear();
  routes_.clear();
  for (size_t t = 0; t < tokens.size(); ++t) {
    const int32_t route = all_[tokens[t].home * tokens.size() + t];
    if (route == kNoRoute) continue;
    homes_.push_back(tokens[t].home);
    routes_.push_back(route);
  }
  return absl::OkStatus();
}

absl::Status Exchange::AllToAll(absl::Span<const int32_t> send_offsets,
                                absl::Span<const int32_t> recv_offsets) {
  const int rank = collective_.rank();
  const int32_t own_rows = recv_offsets[rank + 1] - recv_offsets[rank];
  return Measure((recv_offsets.back() - own_rows) * row_bytes_, [&] {
    return collective_.AllToAll(wire_out_.as<void>(), send_offsets, wire_in_.as<void>(),
                                recv_offsets, row_bytes_);
  });
}

absl::Status Exchange::Measure(int64_t bytes_received,
                               absl::FunctionRef<absl::Status()> operation) {
  const absl::Time start = clock_.Now();
  const int64_t sent = collective_.bytes_sent();
  RETURN_IF_ERROR(operation());
  use_.bytes_sent += collective_.bytes_sent() - sent;
  use_.bytes_received += bytes_received;
  if (collective_.enqueues()) return absl::OkStatus();
  use_.spans.push_back({start, clock_.Now()});
  use_.host_time += use_.spans.back().end - start;
  return absl::OkStatus();
}

void Exchange::Upload() {
  const int rank = collective_.rank();
  staging_[kSent] = num_sent();
  staging_[kReceived] = num_received();
  const auto order = staging_.begin() + kHeader, group_order = order + tokens_max_;
  std::copy(plan_.order[rank].begin(), plan_.order[rank].end(), order);
  std::copy(plan_.group_order[rank].begin(), plan_.group_order[rank].end(), group_order);
  std::copy(plan_.group_offsets[rank].begin(), plan_.group_offsets[rank].end(),
            group_order + tokens_max_);
  device_.Upload(arrays_.as<void>(), staging_.data(), staging_.size() * sizeof(int32_t));
}

absl::Span<const int32_t> Exchange::send_offsets() const {
  const int world = collective_.world_size();
  return absl::MakeConstSpan(plan_.send_offsets)
      .subspan(collective_.rank() * (world + 1), world + 1);
}

absl::Span<const int32_t> Exchange::recv_offsets() const {
  const int world = collective_.world_size();
  return absl::MakeConstSpan(plan_.recv_offsets)
      .subspan(collective_.rank() * (world + 1), world + 1);
}

RowCount Exchange::Rows(int32_t which, int32_t num) const {
  return {arrays_.as<int32_t>() + which, StepBucket(num, tokens_max_)};
}

RowCount Exchange::received_rows() const { return Rows(kReceived, num_received()); }

ExpertGroups Exchange::groups() const {
  int32_t* group_order = arrays_.as<int32_t>() + kHeader + tokens_max_;
  return {group_order + tokens_max_, group_order, static_cast<int>(placement_.ranks.size())};
}

absl::Status Exchange::Dispatch(const void* act) {
  device_.ActToWire(Rows(kSent, num_sent()), hidden_, types_.act, act,
                    arrays_.as<int32_t>() + kHeader, types_.wire, wire_out_.as<void>());
  RETURN_IF_ERROR(AllToAll(send_offsets(), recv_offsets()));
  device_.WireToAct(received_rows(), hidden_, types_.wire, wire_in_.as<void>(), types_.act,
                    received_act_.as<void>());
  return absl::OkStatus();
}

absl::Status Exchange::Combine(float* own) {
  device_.RoundToWire(received_rows(), hidden_, received_own(), types_.wire, wire_out_.as<void>());
  RETURN_IF_ERROR(AllToAll(recv_offsets(), send_offsets()));
  device_.WireToRows(Rows(kSent, num_sent()), hidden_, types_.wire, wire_in_.as<void>(),
                     arrays_.as<int32_t>() + kHeader, own);
  return absl::OkStatus();
}

}  // namespace pregate
