// Which tokens travel between ranks in one step. Routes are the same in every layer, so one plan
// serves all layers (docs/CONTRACTS.md, "Exchange plan"): dispatch sends each token's activation to
// the rank that holds its expert, the expert MLP runs there over contiguous groups, combine takes
// the same way back.
//
//   source s: order[s] sorts its own tokens by (destination, expert, place in the batch);
//             destination d's part is [send_offset(s, d), send_offset(s, d + 1)).
//   target d: receives the parts of source 0, 1, ... one after the other; source s's part begins at
//             recv_offset(d, s). group_order[d] sorts the received rows by (expert, source, place
//             in the batch): expert e's are those from group_offsets[d][e] to
//             group_offsets[d][e + 1].
//
// One rank is the simple case: nothing moves, and group_order of the dispatched rows is the stable
// sort by expert that Device::BuildGroups makes on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/control.h"

namespace pregate {

struct ExchangePlan {
  int32_t world_size = 0;
  std::vector<int32_t> counts;        // [world, world]: tokens from source to target, source first
  std::vector<int32_t> send_offsets;  // [world, world + 1], by source
  std::vector<int32_t> recv_offsets;  // [world, world + 1], by target
  std::vector<std::vector<int32_t>>
      order;  // [source][its tokens]: index among the source's own tokens
  std::vector<std::vector<int32_t>> group_offsets;  // [target][experts + 1]
  std::vector<std::vector<int32_t>> group_order;    // [target][received]: index of a received row

  int32_t count(int32_t source, int32_t target) const {
    return counts[source * world_size + target];
  }
  int32_t send_offset(int32_t source, int32_t target) const {
    return send_offsets[source * (world_size + 1) + target];
  }
  int32_t recv_offset(int32_t target, int32_t source) const {
    return recv_offsets[target * (world_size + 1) + source];
  }
};

// home_ranks[t], routes[t]: of the step's tokens in plan order; every route is known. An expert
// that several ranks hold runs at the token's home rank if that is one of them, else at ranks[home
// % ranks.size()]. INVALID_ARGUMENT names the token whose home or route is out of range, or the
// expert that no valid rank holds.
absl::StatusOr<ExchangePlan> MakeExchangePlan(absl::Span<const int32_t> home_ranks,
                                              absl::Span<const ExpertId> routes,
                                              const Placement& placement, int32_t world_size);

}  // namespace pregate
