#include "expert_service/engine/memory_plan.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "expert_service/engine/expert_part.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/forward_pass.h"
#include "expert_service/engine/kv_cache.h"
#include "expert_service/engine/slot_state.h"

namespace pregate {
namespace {

absl::Status CheckRange(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, ", must be ", min, "..", max));
}

absl::Status CheckOptions(const ModelSpec& spec, const ExecutorOptions& options) {
  RETURN_IF_ERROR(CheckRange("rank", options.rank, 0, kWorkersMax - 1));
  RETURN_IF_ERROR(CheckRange("seq_slots", options.seq_slots, 1, kSeqSlotsMax));
  RETURN_IF_ERROR(CheckRange("step_tokens", options.step_tokens, 1, kStepTokensMax));
  RETURN_IF_ERROR(CheckRange("context_tokens", options.context_tokens, 0, spec.max_position));
  RETURN_IF_ERROR(CheckRange("logits_rows_max", options.logits_rows_max, 1, kStepTokensMax));
  RETURN_IF_ERROR(CheckRange("kv_blocks", options.kv_blocks, 0, kKvBlocksMax));
  RETURN_IF_ERROR(CheckRange("expert_slots", options.expert_slots, 0, spec.num_experts));
  return absl::OkStatus();
}

absl::StatusOr<int32_t> CountBlocks(const ExecutorOptions& options, int64_t block_bytes) {
  if (options.kv_blocks > 0) return options.kv_blocks;
  const int64_t blocks = std::min<int64_t>(options.kv_cache_bytes / block_bytes, kKvBlocksMax);
  if (blocks >= 1) return static_cast<int32_t>(blocks);
  return absl::InvalidArgumentError(absl::StrCat("kv_cache_bytes is ", options.kv_cache_bytes,
                                                 ", one block of ", kKvBlockTokens,
                                                 " tokens takes ", block_bytes));
}

int64_t RouterBytes(const Device& device, const ModelSpec& spec) {
  if (!spec.router) return 0;
  const RouterSpec& r = *spec.router;
  const auto matrix = [&](int outputs, int inputs) {
    return static_cast<int64_t>(device.MatrixBytes(outputs, inputs, WeightFormat::kF32));
  };
  const int64_t layer = matrix(3 * r.hidden, r.hidden) + matrix(r.hidden, r.hidden) +
                        matrix(r.intermediate, r.hidden) + matrix(r.hidden, r.intermediate);
  return matrix(spec.vocab_size, r.hidden) + r.num_layers * layer +
         matrix(spec.num_experts, r.hidden);
}

int64_t UnitsBytes(const Device& device, const ModelSpec& spec, int width, WeightFormat format) {
  return width == 0 ? 0 : static_cast<int64_t>(device.UnitBytes({width, spec.hidden, format}));
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const Device& device,
                                      const ExecutorOptions& options) {
  RETURN_IF_ERROR(CheckOptions(spec, options));
  const WeightFormat format = options.types.weights;
  const int q_width = spec.q_width(), qkv_width = q_width + 2 * spec.kv_width();
  const int vectors = 2 * spec.hidden + (spec.qkv_bias ? qkv_width : 0) +
                      (spec.o_bias ? spec.hidden : 0) + (spec.qk_norm ? 2 * spec.head_dim : 0);

  MemoryPlan plan;
  plan.context_tokens = options.context_tokens > 0 ? options.context_tokens : spec.max_position;
  plan.embedding_bytes = (spec.tie_embeddings ? 1 : 2) *
                         int64_t(device.MatrixBytes(spec.vocab_size, spec.hidden, format));
  plan.attention_bytes =
      spec.num_layers *
      int64_t(device.MatrixBytes(qkv_width, spec.hidden, format) +
              device.MatrixBytes(spec.hidden, q_width, format) + vectors * sizeof(float));
  for (int l = 0; l < spec.num_layers; ++l) {
    plan.shared_ffn_bytes += UnitsBytes(device, spec, spec.shared_ffn_width(l), format);
    if (spec.is_moe())
      plan.expert_bytes += spec.num_experts * UnitsBytes(device, spec, spec.own_width[l], format);
  }
  if (options.expert_slots > 0) {
    plan.expert_host_bytes = plan.expert_bytes;
    plan.unit_slots = options.expert_slots * spec.num_layers;
    plan.expert_bytes = plan.unit_slots * ExpertStore::SlotBytes(device, spec, format);
  }
  plan.router_bytes = options.with_replica ? RouterBytes(device, spec) : 0;
  plan.kv_block_bytes = KvCache::Bytes(device, spec, options.types.kv, 1, options.with_replica);
  ASSIGN_OR_RETURN(plan.kv_blocks, CountBlocks(options, plan.kv_block_bytes));
  plan.kv_bytes =
      KvCache::Bytes(device, spec, options.types.kv, plan.kv_blocks, options.with_replica);
  plan.step_bytes = ForwardPass::Bytes(device, spec, options.types.act, options.step_tokens,
                                       options.logits_rows_max) +
                    ExpertPart::Bytes(spec.num_experts, options.step_tokens) +
                    SlotState::Bytes(options.seq_slots, plan.context_tokens, spec.vocab_size);
  return plan;
}

absl::StatusOr<int32_t> FittingExpertSlots(const ModelSpec& spec, const Device& device,
                                           ExecutorOptions options, int64_t device_bytes) {
  options.expert_slots = 0;
  ASSIGN_OR_RETURN(const MemoryPlan whole, PlanMemory(spec, device, options));
  if (whole.total_bytes() <= device_bytes) return 0;
  const int64_t rest = whole.total_bytes() - whole.expert_bytes;
  // A slot has the largest unit's size, so that as many slots as there are units never fit here.
  const int64_t slot =
      spec.is_moe() ? spec.num_layers * ExpertStore::SlotBytes(device, spec, options.types.weights)
                    : 0;
  if (slot > 0 && rest + slot <= device_bytes) {
    return static_cast<int32_t>((device_bytes - rest) / slot);
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "weights, KV cache (", whole.kv_bytes >> 20, " MiB) and buffers take ", rest >> 20, " MiB",
      slot > 0 ? absl::StrCat(", and the units of one expert ", slot >> 20, " MiB") : "",
      ": the device has ", device_bytes >> 20, " MiB for this worker"));
}

}  // namespace pregate
