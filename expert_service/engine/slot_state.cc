#include "expert_service/engine/slot_state.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

int32_t BlocksPerSequence(int32_t context_tokens) {
  return (context_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
}

static_assert(TokenBiases::kMax == kLogitBiasMax + kBannedTokensMax);

// Both lists as one; a token of both is banned early and has its bias later.
void MergeBiases(const SequenceAdd& add, TokenBiases* out) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  out->num = 0;
  out->early_until = add.banned_until;
  auto biased = add.logit_bias.begin();
  auto banned = add.banned.begin();
  while (biased != add.logit_bias.end() || banned != add.banned.end()) {
    TokenBias& next = out->of[out->num++];
    const bool has_bias =
        biased != add.logit_bias.end() && (banned == add.banned.end() || biased->token <= *banned);
    next.token = has_bias ? biased->token : *banned;
    next.bias = has_bias ? (biased++)->bias : 0;
    const bool is_banned = banned != add.banned.end() && *banned == next.token;
    next.early_bias = is_banned ? kBanned : next.bias;
    if (is_banned) ++banned;
  }
}

}  // namespace

SlotState::SlotState(Device* device, int32_t context_tokens, int vocab_size)
    : device_(*device),
      blocks_per_seq_(BlocksPerSequence(context_tokens)),
      seen_row_(SeenWords(vocab_size)),
      count_row_(seen_row_.size() * 32) {}

absl::StatusOr<std::unique_ptr<SlotState>> SlotState::Create(Device* device, int32_t seq_slots,
                                                             int32_t context_tokens,
                                                             int vocab_size) {
  std::unique_ptr<SlotState> state(new SlotState(device, context_tokens, vocab_size));
  const size_t slots = seq_slots;
  ASSIGN_OR_RETURN(state->block_tables_,
                   device->Allocate(slots * state->blocks_per_seq_ * sizeof(int32_t)));
  ASSIGN_OR_RETURN(state->sampling_, device->Allocate(slots * sizeof(SamplingParams)));
  ASSIGN_OR_RETURN(state->seeds_, device->Allocate(slots * sizeof(uint64_t)));
  const size_t words = slots * SeenWords(vocab_size);
  ASSIGN_OR_RETURN(state->biases_, device->Allocate(slots * sizeof(TokenBiases)));
  ASSIGN_OR_RETURN(state->allowed_, device->Allocate(words * sizeof(uint32_t)));
  ASSIGN_OR_RETURN(state->seen_, device->Allocate(words * sizeof(uint32_t)));
  ASSIGN_OR_RETURN(state->counted_from_, device->Allocate(slots * sizeof(int32_t)));
  ASSIGN_OR_RETURN(state->counts_, device->Allocate(words * 32 * sizeof(uint16_t)));
  ASSIGN_OR_RETURN(state->last_token_, device->Allocate(slots * sizeof(int32_t)));
  ASSIGN_OR_RETURN(state->last_route_, device->Allocate(slots * sizeof(int32_t)));
  return state;
}

int64_t SlotState::Bytes(int32_t seq_slots, int32_t context_tokens, int vocab_size) {
  const size_t slot = (BlocksPerSequence(context_tokens) + 3) * sizeof(int32_t) +
                      sizeof(SamplingParams) + sizeof(uint64_t) + sizeof(TokenBiases) +
                      SeenWords(vocab_size) * (2 * sizeof(uint32_t) + 32 * sizeof(uint16_t));
  return static_cast<int64_t>(seq_slots * slot);
}

void SlotState::Open(const SequenceAdd& add) {
  std::fill(seen_row_.begin(), seen_row_.end(), 0);
  for (TokenId token : add.history) seen_row_[token / 32] |= uint32_t{1} << (token % 32);
  device_.Upload(history().seen + add.seq_slot * seen_row_.size(), seen_row_.data(),
                 seen_row_.size() * sizeof(uint32_t));
  CountHistory(add);
  MergeBiases(add, &bias_row_);
  device_.Upload(biases_.as<TokenBiases>() + add.seq_slot, &bias_row_,
                 offsetof(TokenBiases, of) + bias_row_.num * sizeof(TokenBias));
  device_.Upload(sampling_.as<SamplingParams>() + add.seq_slot, &add.sampling,
                 sizeof(add.sampling));
  device_.Upload(seeds_.as<uint64_t>() + add.seq_slot, &add.seed, sizeof(add.seed));
}

// Only what counts is counted: clearing a row of counts costs more than the rest of an add.
void SlotState::CountHistory(const SequenceAdd& add) {
  const int32_t counted_from = add.sampling.counts_tokens() ? add.generated_from : INT32_MAX;
  device_.Upload(counted_from_.as<int32_t>() + add.seq_slot, &counted_from, sizeof(counted_from));
  if (!add.sampling.counts_tokens()) return;
  std::fill(count_row_.begin(), count_row_.end(), 0);
  for (size_t i = counted_from; i < add.history.size(); ++i) {
    uint16_t& count = count_row_[add.history[i]];
    if (count < UINT16_MAX) ++count;
  }
  device_.Upload(history().counts + add.seq_slot * count_row_.size(), count_row_.data(),
                 count_row_.size() * sizeof(uint16_t));
}

void SlotState::SetAllowed(int32_t slot, absl::Span<const uint32_t> allowed) {
  device_.Upload(allowed_.as<uint32_t>() + slot * seen_row_.size(), allowed.data(),
                 allowed.size() * sizeof(uint32_t));
}

void SlotState::SetBlocks(const BlockTableUpdate& update) {
  int32_t* first =
      block_tables_.as<int32_t>() + int64_t{update.seq_slot} * blocks_per_seq_ + update.first_index;
  device_.Upload(first, update.ids.data(), update.ids.size() * sizeof(BlockId));
}

}  // namespace pregate
