#include "expert_service/testing/plan_maker.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/status.h"

namespace pregate {

PlanMaker::PlanMaker(int32_t seq_slots, int32_t kv_blocks, uint32_t seed)
    : free_slots_(seq_slots), free_blocks_(kv_blocks) {
  std::mt19937 random(seed);
  std::iota(free_slots_.begin(), free_slots_.end(), 0);
  std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
  std::shuffle(free_slots_.begin(), free_slots_.end(), random);
  std::shuffle(free_blocks_.begin(), free_blocks_.end(), random);
}

int32_t PlanMaker::Open(SeqId seq_id, const SamplingParams& sampling, uint64_t seed,
                        std::vector<TokenId> history) {
  SequenceAdd add;
  add.seq_id = seq_id;
  add.sampling = sampling;
  add.seed = seed;
  add.history = std::move(history);
  return Open(std::move(add));
}

int32_t PlanMaker::Open(SequenceAdd add) {
  PREGATE_CHECK(!free_slots_.empty());
  add.seq_slot = free_slots_.back();
  free_slots_.pop_back();
  blocks_[add.seq_slot] = {};
  plan_.add.push_back(std::move(add));
  return plan_.add.back().seq_slot;
}

std::vector<BlockId> PlanMaker::Drop(int32_t slot) {
  plan_.drop.push_back(slot);
  free_slots_.insert(free_slots_.begin(), slot);
  std::vector<BlockId> blocks = std::move(blocks_[slot]);
  free_blocks_.insert(free_blocks_.begin(), blocks.begin(), blocks.end());
  blocks_.erase(slot);
  return blocks;
}

void PlanMaker::Share(int32_t slot, int32_t other, int32_t num_blocks) {
  const std::vector<BlockId>& lent = blocks_[other];
  blocks_[slot].assign(lent.begin(), lent.begin() + num_blocks);
  plan_.blocks.push_back({slot, 0, blocks_[slot]});
}

void PlanMaker::Reserve(int32_t slot, int32_t tokens) {
  std::vector<BlockId>& held = blocks_[slot];
  const size_t need = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  if (need <= held.size()) return;
  BlockTableUpdate update{slot, static_cast<int32_t>(held.size()), {}};
  while (held.size() < need) {
    PREGATE_CHECK(!free_blocks_.empty());
    held.push_back(free_blocks_.back());
    update.ids.push_back(free_blocks_.back());
    free_blocks_.pop_back();
  }
  plan_.blocks.push_back(std::move(update));
}

Row& PlanMaker::AddRow(int32_t slot, int32_t position, std::vector<TokenId> tokens,
                       std::vector<ExpertId> routes, Emit emit) {
  Row& row = plan_.rows.emplace_back();
  row.seq_slot = slot;
  row.position = position;
  row.count = static_cast<int32_t>(tokens.size());
  row.tokens = std::move(tokens);
  row.routes = std::move(routes);
  row.emit = emit;
  Reserve(slot, position + row.count + 1);
  return row;
}

Row& PlanMaker::AddLateRow(int32_t slot, int32_t position, Emit emit) {
  Row& row = AddRow(slot, position, {}, {}, emit);
  row.count = 1;
  row.late = true;
  Reserve(slot, position + 2);
  return row;
}

StepPlan PlanMaker::Take(Epoch epoch) {
  plan_.epoch = epoch;
  plan_.step_id = ++last_step_;
  return std::exchange(plan_, StepPlan());
}

}  // namespace pregate
