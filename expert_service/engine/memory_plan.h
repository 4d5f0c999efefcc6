// Bytes by part, computed from shapes alone, before anything is allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/device/device.h"
#include "common/model/spec/spec.h"

namespace pregate {

struct ExecutorOptions {
  int32_t rank = 0;
  StepTypes types = kBF16Types;
  int64_t kv_cache_bytes = 0;  // used when kv_blocks is 0: as many blocks as fit
  int32_t kv_blocks = 0;
  int32_t seq_slots = 64;
  int32_t step_tokens = 256;
  int32_t context_tokens = 0;  // 0: the model's max_position
  // Experts' worth of unit slots on the device; 0: every unit that the rank holds lies there.
  int32_t expert_slots = 0;
  // Held from the start; missing: all.
  std::optional<std::vector<ExpertId>> experts;
  int32_t logits_rows_max = 32;  // rows that go through the logits product at once
  // Routes of sampled tokens come from a replica of the router, which late rows need. False:
  // samples have no route.
  bool with_replica = true;
  int32_t load_threads = 0;  // that read weights; 0: one a hardware thread
};

struct MemoryPlan {
  int64_t embedding_bytes = 0;    // embedding and logits matrices
  int64_t attention_bytes = 0;    // all layers, norms included
  int64_t shared_ffn_bytes = 0;   // dense FFN or shared neurons
  int64_t expert_bytes = 0;       // slots, or all units
  int32_t unit_slots = 0;         // units that fit at once; 0: all
  int64_t expert_host_bytes = 0;  // images in host memory, beside the slots
  int64_t router_bytes = 0;       // the replica's weights
  int64_t kv_bytes = 0;           // all blocks, the replica's layers included
  int64_t kv_block_bytes = 0;
  int64_t step_bytes = 0;  // activations, logits, per-slot state
  int32_t kv_blocks = 0;
  int32_t context_tokens = 0;
  int64_t total_bytes() const {
    return embedding_bytes + attention_bytes + shared_ffn_bytes + expert_bytes + router_bytes +
           kv_bytes + step_bytes;
  }
};

// INVALID_ARGUMENT names the option that is out of range, or that leaves no room for one block.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const Device& device,
                                      const ExecutorOptions& options);

// The most expert_slots whose plan takes at most `device_bytes`: 0 where all units can stay.
// RESOURCE_EXHAUSTED says what the least takes. What `options` has for them is not looked at.
absl::StatusOr<int32_t> FittingExpertSlots(const ModelSpec& spec, const Device& device,
                                           ExecutorOptions options, int64_t device_bytes);

}  // namespace pregate
