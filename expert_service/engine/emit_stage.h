// What comes after the last layer: bounded batches of rows through the logits product, then
// sampling, scoring or download; and their answers as parts of a StepResult.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "expert_service/core/sequence_table.h"
#include "expert_service/engine/forward_pass.h"
#include "expert_service/engine/replica.h"
#include "expert_service/engine/slot_state.h"
#include "expert_service/engine/step_inputs.h"

namespace pregate {

// Not thread-safe. Everything borrowed outlives it.
class EmitStage {
 public:
  static absl::StatusOr<std::unique_ptr<EmitStage>> Create(Device* device, ForwardPass* pass,
                                                           const SlotState* slots, int vocab_size,
                                                           int32_t step_tokens);

  // Enqueues all chunks after ForwardPass::Run; the last sample of each row ends in last_samples()
  // and slots.last_token. With drafts it waits for the device: the host sees which are right.
  // False when `on_progress` (may be null) stopped it.
  absl::StatusOr<bool> Run(const StepInputs& inputs, const StepProgress& on_progress);
  // In the order of rows that sample.
  const StepTokens& last_samples() const { return last_samples_; }

  // Downloads and turns everything into `result`; samples are noted in `table`. `replica` may be
  // null. A row whose logits are not finite fails its sequence.
  absl::Status Collect(const StepInputs& inputs, const Replica* replica, SequenceTable& table,
                       StepResult& result);

 private:
  EmitStage(Device* device, ForwardPass* pass, const SlotState* slots, int vocab_size,
            int32_t step_tokens);
  EmitArgs ArgsOf(const StepInputs& inputs, const EmitChunk& chunk) const;
  absl::Status DownloadLogprobs(const StepInputs& inputs, const EmitChunk& chunk,
                                const float* logits);
  void DownloadChunk(const StepInputs& inputs, const EmitChunk& chunk, const float* logits);
  void DownloadSamples(const StepInputs& inputs);
  void FindSampledRows(const StepInputs& inputs);
  absl::Status CheckDrafts(const StepInputs& inputs);
  absl::Status DownloadOutputs(const StepInputs& inputs, const Replica* replica);
  void CollectSamples(const StepInputs& inputs, size_t sampled_row, bool has_replica,
                      SequenceTable& table, StepResult& result);
  void CollectScores(const Row& row, int32_t begin, SequenceTable& table, StepResult& result);
  void CollectLogits(SequenceTable& table, StepResult& result);

  Device& device_;
  ForwardPass& pass_;
  const SlotState& slots_;
  const int vocab_size_;
  const int32_t step_tokens_;

  struct SampledRow {
    const Row* row;
    int32_t first;             // its first sample, in emit order
    int32_t drafts_right = 0;  // leading ones
  };
  std::vector<SampledRow> sampled_rows_;
  StepTokens last_samples_;
  std::vector<int32_t> last_staging_;  // where there are drafts: count, ids, positions, slots
  DeviceBuffer last_;

  // In emit order.
  DeviceBuffer tokens_, not_finite_, logprobs_, greedy_;
  std::vector<int32_t> host_tokens_, host_routes_;
  std::vector<uint8_t> host_not_finite_, host_greedy_;
  std::vector<float> host_logprobs_;
  std::vector<std::vector<TokenLogprob>> top_logprobs_;       // in emit order
  std::vector<std::pair<const Row*, RowLogits>> row_logits_;  // in emit order
  // Of a chunk: the rows whose log-probabilities are wanted, and their logits.
  std::vector<int32_t> wanted_;
  std::vector<float> logits_rows_;
};

}  // namespace pregate
