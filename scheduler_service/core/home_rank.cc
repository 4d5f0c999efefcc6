#include "scheduler_service/core/home_rank.h"

#include <algorithm>
#include <vector>

namespace pregate::scheduler {
namespace {

ExpertId MostNamed(const Sequence& sequence, size_t num_experts) {
  std::vector<int32_t> count(num_experts);
  const int32_t end = std::min(sequence.routed, sequence.prompt_len);
  for (int32_t i = 0; i < end; ++i) {
    if (sequence.routes[i] < static_cast<ExpertId>(num_experts)) ++count[sequence.routes[i]];
  }
  return static_cast<ExpertId>(std::max_element(count.begin(), count.end()) - count.begin());
}

bool LoadPermits(const RankBlocks& home, int32_t num_blocks, absl::Span<RankBlocks> free_blocks) {
  return 2 * (home.num_blocks - num_blocks) >= Roomiest(free_blocks)->num_blocks;
}

}  // namespace

RankBlocks* Roomiest(absl::Span<RankBlocks> free_blocks) {
  const auto it = std::max_element(
      free_blocks.begin(), free_blocks.end(),
      [](const RankBlocks& a, const RankBlocks& b) { return a.num_blocks < b.num_blocks; });
  return it == free_blocks.end() ? nullptr : &*it;
}

int32_t FoundBlocks(const Sequence& sequence, const RankBlocks& home) {
  if (sequence.found == 0 || home.kv == nullptr) return 0;
  return home.kv->CountFound(sequence.keys_to_find());
}

RankBlocks* HomeOfPrefix(const Sequence& sequence, absl::Span<RankBlocks> free_blocks) {
  if (free_blocks.size() < 2) return nullptr;
  RankBlocks* home = nullptr;
  int32_t most = 0;
  for (RankBlocks& free : free_blocks) {
    const int32_t found = FoundBlocks(sequence, free);
    if (found < most || found == 0) continue;
    if (found == most && free.num_blocks <= home->num_blocks) continue;
    home = &free;
    most = found;
  }
  if (home == nullptr) return nullptr;
  const bool permits = LoadPermits(*home, BlocksThrough(sequence.num_tokens()) - most, free_blocks);
  return permits ? home : nullptr;
}

RankBlocks* PreferredHome(const Sequence& sequence, absl::Span<const ExpertPlace> experts,
                          absl::Span<RankBlocks> free_blocks) {
  if (free_blocks.size() < 2 || experts.empty() || sequence.routed == 0) return nullptr;
  const ExpertPlace& place = experts[MostNamed(sequence, experts.size())];
  RankBlocks* preferred = nullptr;
  for (RankBlocks& free : free_blocks) {
    const bool holds =
        std::find(place.ranks.begin(), place.ranks.end(), free.rank) != place.ranks.end();
    if (holds && (preferred == nullptr || free.num_blocks > preferred->num_blocks)) {
      preferred = &free;
    }
  }
  if (preferred == nullptr) return nullptr;
  const bool permits = LoadPermits(*preferred, BlocksThrough(sequence.num_tokens()), free_blocks);
  return permits ? preferred : nullptr;
}

}  // namespace pregate::scheduler
