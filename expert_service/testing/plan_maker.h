// Makes valid step plans by hand: hands out slots and blocks in a shuffled order, numbers the
// steps, and gives each row the blocks that the contract asks for.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "common/step/plan.h"

namespace pregate {

class PlanMaker {
 public:
  // Aborts when slots or blocks run out: a test chooses enough of them.
  PlanMaker(int32_t seq_slots, int32_t kv_blocks, uint32_t seed);

  int32_t Open(SeqId seq_id, const SamplingParams& sampling = {}, uint64_t seed = 0,
               std::vector<TokenId> history = {});
  // With all of the add's fields but the slot.
  int32_t Open(SequenceAdd add);
  // Frees the slot and its blocks from the next step on; returns the blocks.
  std::vector<BlockId> Drop(int32_t slot);
  // The slot's first blocks are the other's first ones too. REQUIRES: it has none yet, and neither is
  // dropped.
  void Share(int32_t slot, int32_t other, int32_t num_blocks);
  // Takes blocks for `tokens` tokens.
  void Reserve(int32_t slot, int32_t tokens);

  // `routes` is empty for a dense model. The caller knows the position.
  Row& AddRow(int32_t slot, int32_t position, std::vector<TokenId> tokens,
              std::vector<ExpertId> routes, Emit emit);
  Row& AddLateRow(int32_t slot, int32_t position, Emit emit);

  StepPlan Take(Epoch epoch = 1);

 private:
  StepPlan plan_;
  StepId last_step_ = 0;
  std::vector<int32_t> free_slots_;
  std::vector<BlockId> free_blocks_;
  std::map<int32_t, std::vector<BlockId>> blocks_;  // by slot
};

}  // namespace pregate
