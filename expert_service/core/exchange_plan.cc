#include "expert_service/core/exchange_plan.h"

#include <numeric>

#include "common/base/status.h"

namespace pregate {
namespace {

absl::Status CheckPlacement(const Placement& placement, int32_t world_size) {
  for (size_t e = 0; e < placement.ranks.size(); ++e) {
    if (placement.ranks[e].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("placement: no rank holds expert ", e));
    }
    for (int32_t rank : placement.ranks[e]) {
      if (rank < 0 || rank >= world_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("placement: expert ", e, " is on rank ", rank, " of ", world_size));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(absl::Span<const int32_t> home_ranks, absl::Span<const ExpertId> routes,
                         int32_t num_experts, int32_t world_size) {
  if (home_ranks.size() != routes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(home_ranks.size(), " home ranks, ", routes.size(), " routes"));
  }
  for (size_t t = 0; t < routes.size(); ++t) {
    if (routes[t] < 0 || routes[t] >= num_experts) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", t, ": route ", routes[t], " of ", num_experts, " experts"));
    }
    if (home_ranks[t] < 0 || home_ranks[t] >= world_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", t, ": home rank ", home_ranks[t], " of ", world_size));
    }
  }
  return absl::OkStatus();
}

int32_t TargetRank(const std::vector<int32_t>& ranks, int32_t home) {
  for (int32_t rank : ranks) {
    if (rank == home) return home;
  }
  return ranks[home % ranks.size()];
}

// Stable counting sort of 0..keys.size()-1 by key; offsets gets [num_keys + 1].
std::vector<int32_t> SortByKey(absl::Span<const int32_t> keys, int32_t num_keys,
                               std::vector<int32_t>& offsets) {
  offsets.assign(num_keys + 1, 0);
  for (int32_t key : keys) ++offsets[key + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<int32_t> next(offsets.begin(), offsets.end() - 1);
  std::vector<int32_t> order(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) order[next[keys[i]]++] = static_cast<int32_t>(i);
  return order;
}

// A source's own tokens in plan order: each one's key is (target, expert).
std::vector<std::vector<int32_t>> KeysBySource(absl::Span<const int32_t> home_ranks,
                                               absl::Span<const ExpertId> routes,
                                               const Placement& placement, int32_t world_size) {
  const int32_t num_experts = static_cast<int32_t>(placement.ranks.size());
  std::vector<std::vector<int32_t>> keys(world_size);
  for (size_t t = 0; t < routes.size(); ++t) {
    const int32_t target = TargetRank(placement.ranks[routes[t]], home_ranks[t]);
    keys[home_ranks[t]].push_back(target * num_experts + routes[t]);
  }
  return keys;
}

}  // namespace

absl::StatusOr<ExchangePlan> MakeExchangePlan(absl::Span<const int32_t> home_ranks,
                                              absl::Span<const ExpertId> routes,
                                              const Placement& placement, int32_t world_size) {
  const int32_t num_experts = static_cast<int32_t>(placement.ranks.size());
  RETURN_IF_ERROR(CheckPlacement(placement, world_size));
  RETURN_IF_ERROR(CheckTokens(home_ranks, routes, num_experts, world_size));

  ExchangePlan plan;
  plan.world_size = world_size;
  plan.counts.resize(world_size * world_size);
  plan.send_offsets.resize(world_size * (world_size + 1));
  plan.recv_offsets.resize(world_size * (world_size + 1));
  plan.order.resize(world_size);
  plan.group_offsets.resize(world_size);
  plan.group_order.resize(world_size);

  std::vector<std::vector<int32_t>> received_experts(world_size);
  const auto keys = KeysBySource(home_ranks, routes, placement, world_size);
  for (int32_t s = 0; s < world_size; ++s) {
    std::vector<int32_t> key_offsets;
    plan.order[s] = SortByKey(keys[s], world_size * num_experts, key_offsets);
    for (int32_t d = 0; d < world_size; ++d) {
      const int32_t begin = key_offsets[d * num_experts], end = key_offsets[(d + 1) * num_experts];
      plan.counts[s * world_size + d] = end - begin;
      plan.send_offsets[s * (world_size + 1) + d] = begin;
      plan.recv_offsets[d * (world_size + 1) + s + 1] = end - begin;
      for (int32_t i = begin; i < end; ++i) {
        received_experts[d].push_back(keys[s][plan.order[s][i]] % num_experts);
      }
    }
    plan.send_offsets[s * (world_size + 1) + world_size] = static_cast<int32_t>(keys[s].size());
  }
  for (int32_t d = 0; d < world_size; ++d) {
    const auto row = plan.recv_offsets.begin() + d * (world_size + 1);
    std::partial_sum(row, row + world_size + 1, row);
    plan.group_order[d] = SortByKey(received_experts[d], num_experts, plan.group_offsets[d]);
  }
  return plan;
}

}  // namespace pregate
