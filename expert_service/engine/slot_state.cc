#include "expert_service/engine/slot_state.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate {
namespace {

int32_t BlocksPerSequence(int32_t context_tokens) {
  return (context_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
}

size_t SeenWords(int vocab_size) { return (size_t(vocab_size) + 31) / 32; }

}  // namespace

SlotState::SlotState(Device* device, int32_t context_tokens, int vocab_size)
    : device_(*device),
      blocks_per_seq_(BlocksPerSequence(context_tokens)),
      seen_row_(SeenWords(vocab_size)) {}

absl::StatusOr<std::unique_ptr<SlotState>> SlotState::Create(Device* device, int32_t seq_slots,
                                                             int32_t context_tokens,
                                                             int vocab_size) {
  std::unique_ptr<SlotState> state(new SlotState(device, context_tokens, vocab_size));
  const size_t slots = seq_slots;
  ASSIGN_OR_RETURN(state->block_tables_,
                   device->Allocate(slots * state->blocks_per_seq_ * sizeof(int32_t)));
  ASSIGN_OR_RETURN(state->sampling_, device->Allocate(slots * sizeof(SamplingParams)));
  ASSIGN_OR_RETURN(state->seeds_, device->Allocate(slots * sizeof(uint64_t)));
  ASSIGN_OR_RETURN(state->seen_,
                   device->Allocate(slots * SeenWords(vocab_size) * sizeof(uint32_t)));
  ASSIGN_OR_RETURN(state->last_token_, device->Allocate(slots * sizeof(int32_t)));
  ASSIGN_OR_RETURN(state->last_route_, device->Allocate(slots * sizeof(int32_t)));
  return state;
}

int64_t SlotState::Bytes(int32_t seq_slots, int32_t context_tokens, int vocab_size) {
  const size_t slot = (BlocksPerSequence(context_tokens) + 2) * sizeof(int32_t) +
                      sizeof(SamplingParams) + sizeof(uint64_t) +
                      SeenWords(vocab_size) * sizeof(uint32_t);
  return static_cast<int64_t>(seq_slots * slot);
}

void SlotState::Open(const SequenceAdd& add) {
  std::fill(seen_row_.begin(), seen_row_.end(), 0);
  for (TokenId token : add.history) seen_row_[token / 32] |= uint32_t{1} << (token % 32);
  device_.Upload(seen() + add.seq_slot * seen_row_.size(), seen_row_.data(),
                 seen_row_.size() * sizeof(uint32_t));
  device_.Upload(sampling_.as<SamplingParams>() + add.seq_slot, &add.sampling,
                 sizeof(add.sampling));
  device_.Upload(seeds_.as<uint64_t>() + add.seq_slot, &add.seed, sizeof(add.seed));
}

void SlotState::SetBlocks(const BlockTableUpdate& update) {
  int32_t* first =
      block_tables_.as<int32_t>() + int64_t{update.seq_slot} * blocks_per_seq_ + update.first_index;
  device_.Upload(first, update.ids.data(), update.ids.size() * sizeof(BlockId));
}

}  // namespace pregate
