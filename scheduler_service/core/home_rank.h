// Which rank a new sequence calls home: its attention, KV and sampling stay there for as long as it
// runs (docs/LIFE_OF_A_TOKEN.md).
#pragma once

#include "absl/types/span.h"
#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

// The rank with the most free blocks, the lowest of equals; null when there is none.
RankBlocks* Roomiest(absl::Span<RankBlocks> free_blocks);

// The rank that has most of the sequence computed already (the roomiest of equals), load permitting
// as below. Null: none has any of it, or the load does not permit it.
RankBlocks* HomeOfPrefix(const Sequence& sequence, absl::Span<RankBlocks> free_blocks);
// How many blocks at the sequence's front its home need not compute, since they are in its cache.
int32_t FoundBlocks(const Sequence& sequence, const RankBlocks& home);

// The rank that holds the expert which most of the sequence's routed prompt names (the lowest
// expert of equals; of several ranks the roomiest), load permitting: it keeps at least half the
// free blocks of the roomiest, so that an expert in fashion does not fill one rank while others are
// empty. Null: nothing is known, or the load does not permit it.
RankBlocks* PreferredHome(const Sequence& sequence, absl::Span<const ExpertPlace> experts,
                          absl::Span<RankBlocks> free_blocks);

}  // namespace pregate::scheduler
