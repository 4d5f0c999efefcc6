#include "expert_service/engine/step_inputs.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate {

StepInputs::StepInputs(Device* device, int32_t step_tokens, int32_t chunk_rows)
    : device_(*device), step_tokens_(step_tokens), chunk_rows_(chunk_rows) {}

absl::StatusOr<std::unique_ptr<StepInputs>> StepInputs::Create(Device* device, int32_t step_tokens,
                                                               int32_t chunk_rows) {
  std::unique_ptr<StepInputs> inputs(new StepInputs(device, step_tokens, chunk_rows));
  size_t bytes = 0;
  inputs->Carve(nullptr, &bytes);
  inputs->staging_.resize(bytes);
  ASSIGN_OR_RETURN(inputs->buffer_, device->Allocate(bytes));
  inputs->host_ = inputs->Carve(inputs->staging_.data(), &bytes);
  inputs->device_arrays_ = inputs->Carve(inputs->buffer_.as<std::byte>(), &bytes);
  inputs->Clear();
  return inputs;
}

// One layout for both sides. With a null base only *bytes is of use.
StepArrays StepInputs::Carve(std::byte* base, size_t* bytes) const {
  size_t offset = 0;
  const auto take = [&](size_t elements) {
    auto* array = reinterpret_cast<int32_t*>(base + offset);
    offset += elements * sizeof(int32_t);
    return array;
  };
  const size_t t = step_tokens_;
  StepArrays a;
  a.num_tokens = take(1);
  a.num_fill = take(1);
  a.num_drafts = take(1);
  a.num_samples = take(1);
  a.chunk_rows = take(chunks_max());
  for (int32_t** array :
       {&a.token_ids, &a.positions, &a.seq_slots, &a.routes, &a.fill_token_ids, &a.fill_positions,
        &a.fill_seq_slots, &a.draft_token_ids, &a.draft_positions, &a.draft_seq_slots,
        &a.emit_index, &a.emit_positions, &a.emit_seq_slots, &a.emit_targets, &a.emit_masked}) {
    *array = take(t);
  }
  a.late = reinterpret_cast<uint8_t*>(take((t + 3) / 4));
  *bytes = offset;
  return a;
}

// Each kind may leave one chunk that is not full.
int32_t StepInputs::chunks_max() const { return step_tokens_ / chunk_rows_ + 3; }

void StepInputs::Clear() {
  *host_.num_tokens = *host_.num_fill = *host_.num_drafts = *host_.num_samples = 0;
  rows_.clear();
  draft_index_.clear();
  emits_.clear();
  chunks_.clear();
}

void StepInputs::AddRow(const Row& row, int32_t fill_from) {
  int32_t& n = *host_.num_tokens;
  PREGATE_CHECK(row.count <= step_tokens_ - n, "row of ", row.count, " tokens after ", n);
  rows_.emplace_back(&row, n);
  for (int32_t i = 0; i < row.count; ++i, ++n) {
    host_.token_ids[n] = row.late ? 0 : row.tokens[i];
    host_.routes[n] = i < static_cast<int32_t>(row.routes.size()) ? row.routes[i] : 0;
    host_.positions[n] = row.position + i;
    host_.seq_slots[n] = row.seq_slot;
    host_.late[n] = row.late;
    if (i >= row.committed()) {
      const int32_t d = (*host_.num_drafts)++;
      draft_index_.push_back(n);
      host_.draft_token_ids[d] = row.tokens[i];
      host_.draft_positions[d] = row.position + i;
      host_.draft_seq_slots[d] = row.seq_slot;
    } else if (row.position + i >= fill_from) {
      const int32_t f = (*host_.num_fill)++;
      host_.fill_token_ids[f] = row.tokens[i];
      host_.fill_positions[f] = row.position + i;
      host_.fill_seq_slots[f] = row.seq_slot;
    }
  }
}

void StepInputs::SetDraftRoutes(absl::Span<const ExpertId> routes) {
  for (size_t d = 0; d < draft_index_.size(); ++d) host_.routes[draft_index_[d]] = routes[d];
  device_.Upload(device_arrays_.routes, host_.routes, num_tokens() * sizeof(int32_t));
}

void StepInputs::Upload() {
  for (Emit kind : {Emit::kSample, Emit::kScore, Emit::kLogits}) {
    const int32_t begin = static_cast<int32_t>(emits_.size());
    LayOutEmits(kind);
    CutChunks(kind, begin);
    if (kind == Emit::kSample) *host_.num_samples = static_cast<int32_t>(emits_.size());
  }
  device_.Upload(buffer_.as<void>(), staging_.data(), staging_.size());
}

void StepInputs::LayOutEmits(Emit kind) {
  for (const auto& [row, first] : rows_) {
    if (row->emit != kind) continue;
    for (int32_t i = kind == Emit::kSample ? row->committed() - 1 : 0; i < row->count; ++i) {
      const size_t item = emits_.size();
      host_.emit_index[item] = first + i;
      host_.emit_positions[item] = row->position + i + 1;
      host_.emit_seq_slots[item] = row->seq_slot;
      host_.emit_targets[item] = kind == Emit::kScore ? row->targets[i] : 0;
      host_.emit_masked[item] = row->allowed.empty() ? 0 : 1;
      emits_.push_back({row, i});
    }
  }
}

void StepInputs::CutChunks(Emit kind, int32_t begin) {
  const int32_t end = static_cast<int32_t>(emits_.size());
  for (; begin < end; begin += chunk_rows_) {
    const int32_t count = std::min(chunk_rows_, end - begin);
    host_.chunk_rows[chunks_.size()] = count;
    chunks_.push_back(
        {kind,
         begin,
         count,
         {device_arrays_.chunk_rows + chunks_.size(), StepBucket(count, chunk_rows_)}});
  }
}

}  // namespace pregate
