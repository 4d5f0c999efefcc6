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

  // Sampling parameters, seed, and the history as tokens seen.
  void Open(const SequenceAdd& add);
  void SetBlocks(const BlockTableUpdate& update);

  const int32_t* block_tables() const {
    return block_tables_.as<int32_t>();
  }  // [slots, blocks_per_seq]
  int32_t blocks_per_seq() const { return blocks_per_seq_; }
  const SamplingParams* sampling() const { return sampling_.as<SamplingParams>(); }  // [slots]
  const uint64_t* seeds() const { return seeds_.as<uint64_t>(); }                    // [slots]
  uint32_t* seen() const { return seen_.as<uint32_t>(); }            // [slots, vocab / 32]
  int32_t* last_token() const { return last_token_.as<int32_t>(); }  // [slots]
  int32_t* last_route() const { return last_route_.as<int32_t>(); }  // [slots]

 private:
  SlotState(Device* device, int32_t context_tokens, int vocab_size);

  Device& device_;
  const int32_t blocks_per_seq_;
  std::vector<uint32_t> seen_row_;  // [vocab / 32] scratch
  DeviceBuffer block_tables_, sampling_, seeds_, seen_, last_token_, last_route_;
};

}  // namespace pregate
