// The device's side of the sequence table: what operations look up by slot.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "common/step/plan.h"

namespace pregate {

// Owns the arrays; the device outlives it. Not thread-safe. REQUIRES everywhere: slots and ids in
// range.
class SlotState {
 public:
  static absl::StatusOr<std::unique_ptr<SlotState>> Create(Device* device, int32_t seq_slots,
                                                           int32_t context_tokens, int vocab_size);
  static int64_t Bytes(int32_t seq_slots, int32_t context_tokens, int vocab_size);

  // What tokens are drawn by: parameters, seed, biases, and the history as tokens seen and counted.
  void Open(const SequenceAdd& add);
  void SetBlocks(const BlockTableUpdate& update);
  // The mask of the next token.
  void SetAllowed(int32_t slot, absl::Span<const uint32_t> allowed);

  const int32_t* block_tables() const {
    return block_tables_.as<int32_t>();
  }  // [slots, blocks_per_seq]
  int32_t blocks_per_seq() const { return blocks_per_seq_; }
  const SamplingParams* sampling() const { return sampling_.as<SamplingParams>(); }  // [slots]
  const uint64_t* seeds() const { return seeds_.as<uint64_t>(); }                    // [slots]
  const TokenBiases* biases() const { return biases_.as<TokenBiases>(); }            // [slots]
  const uint32_t* allowed() const { return allowed_.as<uint32_t>(); }  // [slots, words]
  TokenHistory history() const {
    return {seen_.as<uint32_t>(), counted_from_.as<int32_t>(), counts_.as<uint16_t>()};
  }
  int32_t* last_token() const { return last_token_.as<int32_t>(); }  // [slots]
  int32_t* last_route() const { return last_route_.as<int32_t>(); }  // [slots]

 private:
  SlotState(Device* device, int32_t context_tokens, int vocab_size);
  void CountHistory(const SequenceAdd& add);

  Device& device_;
  const int32_t blocks_per_seq_;
  // Scratch of Open.
  std::vector<uint32_t> seen_row_;   // [words]
  std::vector<uint16_t> count_row_;  // [32 words]
  TokenBiases bias_row_;
  DeviceBuffer block_tables_, sampling_, seeds_, biases_, allowed_, seen_, counted_from_, counts_,
      last_token_, last_route_;
};

}  // namespace pregate
