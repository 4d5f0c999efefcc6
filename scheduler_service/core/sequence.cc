#include "scheduler_service/core/sequence.h"

namespace pregate::scheduler {

const char* SequenceStateName(SequenceState state) {
  switch (state) {
    case SequenceState::kRouting:
      return "routing";
    case SequenceState::kQueued:
      return "queued";
    case SequenceState::kRunning:
      return "running";
    case SequenceState::kPreempted:
      return "preempted";
    case SequenceState::kFinished:
      return "finished";
  }
  return "unknown";
}

void Sequence::Append(TokenId token, ExpertId route) {
  tokens.push_back(token);
  routes.push_back(route);
  drafts.clear();
  AdvanceRouted();
}

void Sequence::RecordRoutes(int32_t base, absl::Span<const ExpertId> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t position = base + i;
    if (position >= routes.size()) break;
    if (routes[position] == kNoRoute) routes[position] = values[i];
  }
  AdvanceRouted();
}

void Sequence::AdvanceRouted() {
  while (routed < num_tokens() && routes[routed] != kNoRoute) ++routed;
}

}  // namespace pregate::scheduler
