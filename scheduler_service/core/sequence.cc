#include "scheduler_service/core/sequence.h"

#include <algorithm>

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

void Sequence::ExtendKeys() {
  const size_t num_full = num_routed() / kKvBlockTokens;
  if (keys.size() >= num_full) return;
  keys.reserve(max_len / kKvBlockTokens);
  while (keys.size() < num_full) {
    const size_t begin = keys.size() * kKvBlockTokens;
    const auto block_of = [&](const std::vector<int32_t>& values) {
      return absl::MakeConstSpan(values).subspan(begin, kKvBlockTokens);
    };
    const PrefixKey& parent = keys.empty() ? empty_prefix : keys.back();
    keys.push_back(NextPrefix(parent, block_of(tokens), block_of(routes)));
  }
}

absl::Span<const PrefixKey> Sequence::keys_to_find() const {
  const int32_t end = scored < score_end ? scored : num_tokens() - 1;
  return absl::MakeConstSpan(keys).first(std::min<size_t>(keys.size(), end / kKvBlockTokens));
}

void Sequence::AdvanceRouted() {
  for (; routed < num_tokens() && routes[routed] != kNoRoute; ++routed) {
    const auto expert = static_cast<size_t>(routes[routed]);
    if (expert >= expert_tokens.size()) expert_tokens.resize(expert + 1);
    ++expert_tokens[expert];
  }
}

}  // namespace pregate::scheduler
