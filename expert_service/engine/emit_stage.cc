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

// Of samples, whose scores come behind the draw.
bool WantsLogprobs(const StepInputs& inputs, const EmitChunk& chunk) {
  const auto emits = inputs.emits().subspan(chunk.begin, chunk.count);
  return chunk.kind == Emit::kSample &&
         std::any_of(emits.begin(), emits.end(),
                     [](const EmitItem& item) { return item.row->logprobs_k > 0; });
}

}  // namespace

EmitStage::EmitStage(Device* device, ForwardPass* pass, const SlotState* slots, int vocab_size,
                     int32_t step_tokens)
    : device_(*device),
      pass_(*pass),
      slots_(*slots),
      vocab_size_(vocab_size),
      step_tokens_(step_tokens),
      last_staging_(1 + 3 * size_t(step_tokens)),
      host_tokens_(step_tokens),
      host_routes_(step_tokens),
      host_not_finite_(step_tokens),
      host_greedy_(step_tokens),
      host_logprobs_(step_tokens),
      top_logprobs_(step_tokens) {}

absl::StatusOr<std::unique_ptr<EmitStage>> EmitStage::Create(Device* device, ForwardPass* pass,
                                                             const SlotState* slots, int vocab_size,
                                                             int32_t step_tokens) {
  std::unique_ptr<EmitStage> stage(new EmitStage(device, pass, slots, vocab_size, step_tokens));
  ASSIGN_OR_RETURN(stage->last_, device->Allocate(stage->last_staging_.size() * sizeof(int32_t)));
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
    if (chunk.kind == Emit::kLogits) {
      DownloadChunk(inputs, chunk, logits);
    } else {
      RETURN_IF_ERROR(DownloadLogprobs(inputs, chunk, logits));
    }
    if (on_progress && !on_progress()) return false;
  }
  FindSampledRows(inputs);
  if (sampled_rows_.empty()) return true;
  const StepArrays& a = inputs.device();
  last_samples_ = {inputs.samples(), tokens_.as<int32_t>(), a.emit_positions, a.emit_seq_slots};
  if (inputs.num_drafts() > 0) RETURN_IF_ERROR(CheckDrafts(inputs));
  device_.ScatterToSlots(last_samples_.rows, last_samples_.ids, last_samples_.seq_slots,
                         slots_.last_token());
  return true;
}

void EmitStage::FindSampledRows(const StepInputs& inputs) {
  sampled_rows_.clear();
  for (int32_t item = 0; item < inputs.num_samples();) {
    const Row* row = inputs.emits()[item].row;
    sampled_rows_.push_back({row, item});
    item += row->drafts + 1;
  }
}

// A draft is right if it is what was drawn where it stands; the sample after the last right one is
// the row's last.
absl::Status EmitStage::CheckDrafts(const StepInputs& inputs) {
  DownloadSamples(inputs);
  RETURN_IF_ERROR(device_.Synchronize());
  const size_t rows = sampled_rows_.size();
  int32_t* ids = last_staging_.data() + 1;
  last_staging_[0] = static_cast<int32_t>(rows);
  for (size_t r = 0; r < rows; ++r) {
    auto& [row, first, right] = sampled_rows_[r];
    const TokenId* drafts = row->tokens.data() + row->committed();
    while (right < row->drafts && host_tokens_[first + right] == drafts[right]) ++right;
    ids[r] = host_tokens_[first + right];
    ids[step_tokens_ + r] = row->position + row->committed() + right;
    ids[2 * step_tokens_ + r] = row->seq_slot;
  }
  device_.Upload(last_.as<void>(), last_staging_.data(), last_staging_.size() * sizeof(int32_t));
  const int32_t* arrays = last_.as<int32_t>();
  last_samples_ = {{arrays, inputs.samples().max},
                   arrays + 1,
                   arrays + 1 + step_tokens_,
                   arrays + 1 + 2 * step_tokens_};
  return absl::OkStatus();
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
                             .history = slots_.history(),
                             .biases = slots_.biases(),
                             .allowed = slots_.allowed(),
                             .seq_slots = a.emit_seq_slots + begin,
                             .positions = a.emit_positions + begin,
                             .masked = a.emit_masked + begin,
                             .not_finite = not_finite_.as<uint8_t>() + begin,
                             .tokens = tokens_.as<int32_t>() + begin};
  }
  if (chunk.kind == Emit::kScore || WantsLogprobs(inputs, chunk)) {
    const bool scores = chunk.kind == Emit::kScore;
    args.score = ScoreArgs{.targets = (scores ? a.emit_targets : tokens_.as<int32_t>()) + begin,
                           .logprobs = logprobs_.as<float>() + begin,
                           .greedy = greedy_.as<uint8_t>() + begin};
  }
  return args;
}

// The device knows the tokens' own; the likeliest are looked for on the host.
absl::Status EmitStage::DownloadLogprobs(const StepInputs& inputs, const EmitChunk& chunk,
                                         const float* logits) {
  const size_t vocab = vocab_size_, begin = chunk.begin;
  wanted_.clear();
  for (int32_t i = 0; i < chunk.count; ++i) {
    top_logprobs_[begin + i].clear();
    if (inputs.emits()[begin + i].row->logprobs_k > 0) wanted_.push_back(i);
  }
  if (wanted_.empty()) return absl::OkStatus();
  logits_rows_.resize(std::max(logits_rows_.size(), wanted_.size() * vocab));
  for (size_t w = 0; w < wanted_.size(); ++w) {
    device_.Download(&logits_rows_[w * vocab], logits + wanted_[w] * vocab, vocab * sizeof(float));
  }
  device_.Download(&host_tokens_[begin], tokens_.as<int32_t>() + begin,
                   chunk.count * sizeof(int32_t));
  device_.Download(&host_logprobs_[begin], logprobs_.as<float>() + begin,
                   chunk.count * sizeof(float));
  RETURN_IF_ERROR(device_.Synchronize());
  for (size_t w = 0; w < wanted_.size(); ++w) {
    const size_t item = begin + wanted_[w];
    const auto& [row, offset] = inputs.emits()[item];
    const TokenId token = chunk.kind == Emit::kScore ? row->targets[offset] : host_tokens_[item];
    top_logprobs_[item] = TopLogprobs(absl::MakeConstSpan(logits_rows_).subspan(w * vocab, vocab),
                                      token, host_logprobs_[item], row->logprobs_k);
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

void EmitStage::DownloadSamples(const StepInputs& inputs) {
  device_.Download(host_tokens_.data(), tokens_.as<void>(), inputs.num_samples() * sizeof(int32_t));
  device_.Download(host_not_finite_.data(), not_finite_.as<void>(), inputs.num_samples());
}

absl::Status EmitStage::DownloadOutputs(const StepInputs& inputs, const Replica* replica) {
  const size_t samples = inputs.num_samples(), all = inputs.emits().size();
  if (samples > 0 && inputs.num_drafts() == 0) DownloadSamples(inputs);
  if (samples > 0 && replica != nullptr) {
    device_.Download(host_routes_.data(), replica->routes(),
                     sampled_rows_.size() * sizeof(int32_t));
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
  for (size_t r = 0; r < sampled_rows_.size(); ++r) {
    CollectSamples(inputs, r, replica != nullptr, table, result);
  }
  for (size_t item = 0; item < inputs.emits().size(); ++item) {
    const auto& [row, offset] = inputs.emits()[item];
    if (row->emit == Emit::kScore && offset == 0) {
      CollectScores(*row, static_cast<int32_t>(item), table, result);
    }
  }
  CollectLogits(table, result);
  return absl::OkStatus();
}

// The keys and values of what follows the last sample are refused drafts': later rows write over
// them before anything reads them.
void EmitStage::CollectSamples(const StepInputs& inputs, size_t sampled_row, bool has_replica,
                               SequenceTable& table, StepResult& result) {
  const auto& [row, first, drafts_right] = sampled_rows_[sampled_row];
  Sequence& sequence = table.at(row->seq_slot);
  for (int32_t i = 0; i <= drafts_right; ++i) {
    const int32_t item = first + i, position = row->position + row->committed() + i;
    if (host_not_finite_[item]) {
      result.row_errors.push_back(sequence.Fail(NotFinite(position - 1)));
      return;
    }
    ExpertId route = kNoRoute;
    if (has_replica) {
      route = i < drafts_right ? inputs.RouteBehind(item) : host_routes_[sampled_row];
    }
    result.samples.push_back(
        {sequence.seq_id, position, host_tokens_[item], route, std::move(top_logprobs_[item])});
  }
  const Sample& last = result.samples.back();
  sequence.sampled_position = sequence.length = last.position;
  sequence.sampled_token = last.token;
  sequence.sampled_route = last.route;
  if (has_replica) sequence.replica_length = last.position + 1;
}

void EmitStage::CollectScores(const Row& row, int32_t begin, SequenceTable& table,
                              StepResult& result) {
  Sequence& sequence = table.at(row.seq_slot);
  RowScores scores{sequence.seq_id, row.position, {}, {}, {}};
  for (int32_t i = begin; i < begin + row.count; ++i) {
    if (!std::isfinite(host_logprobs_[i])) {
      result.row_errors.push_back(sequence.Fail(NotFinite(row.position + i - begin)));
      return;
    }
    scores.logprobs.push_back(host_logprobs_[i]);
    scores.greedy.push_back(host_greedy_[i]);
    if (row.logprobs_k > 0) scores.top.push_back(std::move(top_logprobs_[i]));
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
