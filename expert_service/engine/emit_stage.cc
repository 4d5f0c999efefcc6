#include "expert_service/engine/emit_stage.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "expert_service/core/logprobs.h"

namespace pregate {
namespace {

std::string NotFinite(int32_t position) {
  return absl::StrCat("logits after position ", position, " are not finite");
}

}  // namespace

EmitStage::EmitStage(Device* device, ForwardPass* pass, const SlotState* slots, int vocab_size,
                     int32_t step_tokens)
    : device_(*device),
      pass_(*pass),
      slots_(*slots),
      vocab_size_(vocab_size),
      host_tokens_(step_tokens),
      host_routes_(step_tokens),
      host_not_finite_(step_tokens),
      host_greedy_(step_tokens),
      host_logprobs_(step_tokens),
      top_logprobs_(step_tokens),
      logits_row_(vocab_size) {}

absl::StatusOr<std::unique_ptr<EmitStage>> EmitStage::Create(Device* device, ForwardPass* pass,
                                                             const SlotState* slots, int vocab_size,
                                                             int32_t step_tokens) {
  std::unique_ptr<EmitStage> stage(new EmitStage(device, pass, slots, vocab_size, step_tokens));
  ASSIGN_OR_RETURN(stage->tokens_, device->Allocate(step_tokens * sizeof(int32_t)));
  ASSIGN_OR_RETURN(stage->not_finite_, device->Allocate(step_tokens * sizeof(uint8_t)));
  ASSIGN_OR_RETURN(stage->logprobs_, device->Allocate(step_tokens * sizeof(float)));
  ASSIGN_OR_RETURN(stage->greedy_, device->Allocate(step_tokens * sizeof(uint8_t)));
  return stage;
}

absl::StatusOr<bool> EmitStage::Run(const StepInputs& inputs, const StepProgress& on_progress) {
  row_logits_.clear();
  for (const EmitChunk& chunk : inputs.chunks()) {
    const float* logits = pass_.Emit(ArgsOf(inputs, chunk));
    if (chunk.kind == Emit::kSample) RETURN_IF_ERROR(DownloadLogprobs(inputs, chunk, logits));
    if (chunk.kind == Emit::kLogits) DownloadChunk(inputs, chunk, logits);
    if (on_progress && !on_progress()) return false;
  }
  if (inputs.num_samples() > 0) {
    device_.ScatterToSlots(inputs.samples(), sampled_tokens(), inputs.device().emit_seq_slots,
                           slots_.last_token());
  }
  return true;
}

EmitArgs EmitStage::ArgsOf(const StepInputs& inputs, const EmitChunk& chunk) const {
  const StepArrays& a = inputs.device();
  const int32_t begin = chunk.begin;
  EmitArgs args;
  args.rows = chunk.rows;
  args.index = a.emit_index + begin;
  if (chunk.kind == Emit::kSample) {
    args.sample = SampleArgs{.params = slots_.sampling(),
                             .seeds = slots_.seeds(),
                             .seen = slots_.seen(),
                             .seq_slots = a.emit_seq_slots + begin,
                             .positions = a.emit_positions + begin,
                             .not_finite = not_finite_.as<uint8_t>() + begin,
                             .tokens = tokens_.as<int32_t>() + begin};
  } else if (chunk.kind == Emit::kScore) {
    args.score = ScoreArgs{.targets = a.emit_targets + begin,
                           .logprobs = logprobs_.as<float>() + begin,
                           .greedy = greedy_.as<uint8_t>() + begin};
  }
  return args;
}

// Rare enough to be done on the host, row by row.
absl::Status EmitStage::DownloadLogprobs(const StepInputs& inputs, const EmitChunk& chunk,
                                         const float* logits) {
  for (int32_t i = 0; i < chunk.count; ++i) {
    const int32_t item = chunk.begin + i, k = inputs.emits()[item].row->logprobs_k;
    top_logprobs_[item].clear();
    if (k == 0) continue;
    TokenId token = 0;
    device_.Download(&token, tokens_.as<int32_t>() + item, sizeof(token));
    device_.Download(logits_row_.data(), logits + int64_t{i} * vocab_size_,
                     vocab_size_ * sizeof(float));
    RETURN_IF_ERROR(device_.Synchronize());
    top_logprobs_[item] = TopLogprobs(logits_row_, token, k);
  }
  return absl::OkStatus();
}

void EmitStage::DownloadChunk(const StepInputs& inputs, const EmitChunk& chunk,
                              const float* logits) {
  for (int32_t i = 0; i < chunk.count; ++i) {
    const auto& [row, offset] = inputs.emits()[chunk.begin + i];
    if (offset == 0) {
      row_logits_.emplace_back(row, RowLogits{0, row->position, {}});
      row_logits_.back().second.logits.resize(size_t(row->count) * vocab_size_);
    }
    device_.Download(row_logits_.back().second.logits.data() + size_t(offset) * vocab_size_,
                     logits + size_t(i) * vocab_size_, vocab_size_ * sizeof(float));
  }
}

absl::Status EmitStage::DownloadOutputs(const StepInputs& inputs, const Replica* replica) {
  const size_t samples = inputs.num_samples(), all = inputs.emits().size();
  if (samples > 0) {
    device_.Download(host_tokens_.data(), tokens_.as<void>(), samples * sizeof(int32_t));
    device_.Download(host_not_finite_.data(), not_finite_.as<void>(), samples);
    if (replica != nullptr)
      device_.Download(host_routes_.data(), replica->routes(), samples * sizeof(int32_t));
  }
  if (all > samples) {
    device_.Download(host_logprobs_.data(), logprobs_.as<void>(), all * sizeof(float));
    device_.Download(host_greedy_.data(), greedy_.as<void>(), all);
  }
  return device_.Synchronize();
}

absl::Status EmitStage::Collect(const StepInputs& inputs, const Replica* replica,
                                SequenceTable& table, StepResult& result) {
  RETURN_IF_ERROR(DownloadOutputs(inputs, replica));
  for (size_t item = 0; item < inputs.emits().size(); ++item) {
    const auto& [row, offset] = inputs.emits()[item];
    const int32_t index = static_cast<int32_t>(item);
    if (row->emit == Emit::kSample) CollectSample(*row, index, replica != nullptr, table, result);
    if (row->emit == Emit::kScore && offset == 0) CollectScores(*row, index, table, result);
  }
  CollectLogits(table, result);
  return absl::OkStatus();
}

void EmitStage::CollectSample(const Row& row, int32_t index, bool has_replica, SequenceTable& table,
                              StepResult& result) {
  Sequence& sequence = table.at(row.seq_slot);
  const int32_t position = row.position + row.count;
  if (host_not_finite_[index]) {
    result.row_errors.push_back(sequence.Fail(NotFinite(position - 1)));
    return;
  }
  sequence.sampled_position = position;
  sequence.sampled_token = host_tokens_[index];
  sequence.sampled_route = has_replica ? host_routes_[index] : kNoRoute;
  if (has_replica) sequence.replica_length = position + 1;
  result.samples.push_back({sequence.seq_id, position, sequence.sampled_token,
                            sequence.sampled_route, std::move(top_logprobs_[index])});
}

void EmitStage::CollectScores(const Row& row, int32_t begin, SequenceTable& table,
                              StepResult& result) {
  Sequence& sequence = table.at(row.seq_slot);
  RowScores scores{sequence.seq_id, row.position, {}, {}};
  for (int32_t i = begin; i < begin + row.count; ++i) {
    if (!std::isfinite(host_logprobs_[i])) {
      result.row_errors.push_back(sequence.Fail(NotFinite(row.position + i - begin)));
      return;
    }
    scores.logprobs.push_back(host_logprobs_[i]);
    scores.greedy.push_back(host_greedy_[i]);
  }
  result.scores.push_back(std::move(scores));
}

void EmitStage::CollectLogits(SequenceTable& table, StepResult& result) {
  for (auto& [row, logits] : row_logits_) {
    Sequence& sequence = table.at(row->seq_slot);
    const auto bad = std::find_if(logits.logits.begin(), logits.logits.end(),
                                  [](float value) { return !std::isfinite(value); });
    if (bad != logits.logits.end()) {
      const auto index = (bad - logits.logits.begin()) / vocab_size_;
      result.row_errors.push_back(
          sequence.Fail(NotFinite(row->position + static_cast<int32_t>(index))));
      continue;
    }
    logits.seq_id = sequence.seq_id;
    result.logits.push_back(std::move(logits));
  }
}

}  // namespace pregate
