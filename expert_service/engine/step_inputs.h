// The arrays of one step: staged on the host, uploaded in one piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "common/step/plan.h"
#include "expert_service/core/step_bucket.h"

namespace pregate {

// One side, host or device. T = tokens of a step at most.
struct StepArrays {
  int32_t* num_tokens = nullptr;   // [1]
  int32_t* num_fill = nullptr;     // [1]
  int32_t* num_drafts = nullptr;   // [1]
  int32_t* num_samples = nullptr;  // [1]
  int32_t* chunk_rows = nullptr;   // [chunks max]
  // Every token of the step. Late ones are resolved on the device.
  int32_t* token_ids = nullptr;  // [T]
  int32_t* positions = nullptr;  // [T]
  int32_t* seq_slots = nullptr;  // [T]
  int32_t* routes = nullptr;     // [T] drafts' are set later
  // Tokens whose replica KV is missing.
  int32_t* fill_token_ids = nullptr;  // [T]
  int32_t* fill_positions = nullptr;  // [T]
  int32_t* fill_seq_slots = nullptr;  // [T]
  // Drafts.
  int32_t* draft_token_ids = nullptr;  // [T]
  int32_t* draft_positions = nullptr;  // [T]
  int32_t* draft_seq_slots = nullptr;  // [T]
  // Tokens that emit: all samples first, then all scores, then all logits.
  int32_t* emit_index = nullptr;      // [T] which token of the step
  int32_t* emit_positions = nullptr;  // [T] of the token that follows
  int32_t* emit_seq_slots = nullptr;  // [T]
  int32_t* emit_targets = nullptr;    // [T] of scores
  int32_t* emit_masked = nullptr;     // [T] of samples: 1 where the row has `allowed`
  uint8_t* late = nullptr;            // [T]
};

// One token that emits, in the order of emit_index.
struct EmitItem {
  const Row* row = nullptr;
  int32_t offset = 0;  // within the row
};

// Emitting tokens of one kind that go through the logits product together.
struct EmitChunk {
  Emit kind = Emit::kNone;
  int32_t begin = 0;  // in emit order
  int32_t count = 0;
  RowCount rows;  // the device's view of count
};

// Some of a step's tokens: device arrays [rows.max].
struct StepTokens {
  RowCount rows;
  const int32_t* ids = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* seq_slots = nullptr;
};

// Not thread-safe. Rows are borrowed from the plan until Clear.
class StepInputs {
 public:
  // `step_tokens` tokens, `chunk_rows` emitting tokens in one chunk. The device outlives it.
  static absl::StatusOr<std::unique_ptr<StepInputs>> Create(Device* device, int32_t step_tokens,
                                                            int32_t chunk_rows);

  void Clear();
  // REQUIRES: the row passed CheckRow, the step's tokens fit. Committed tokens from position
  // `fill_from` on miss replica KV.
  void AddRow(const Row& row, int32_t fill_from);
  // After the last row: lays out what emits and uploads everything.
  void Upload();
  // Of every draft, in the order of rows. Before the routes are used.
  void SetDraftRoutes(absl::Span<const ExpertId> routes);

  const StepArrays& device() const { return device_arrays_; }
  int32_t num_tokens() const { return *host_.num_tokens; }
  int32_t num_fill() const { return *host_.num_fill; }
  int32_t num_drafts() const { return *host_.num_drafts; }
  int32_t num_samples() const { return *host_.num_samples; }  // one more than its drafts a row
  absl::Span<const int32_t> routes() const {
    return {host_.routes, static_cast<size_t>(num_tokens())};
  }
  // Since Clear, with the index of each one's first token.
  absl::Span<const std::pair<const Row*, int32_t>> rows() const { return rows_; }
  absl::Span<const EmitItem> emits() const { return emits_; }
  ExpertId DraftRoute(size_t draft) const { return host_.routes[draft_index_[draft]]; }
  // Of the token that stands behind the emitting one in its row.
  ExpertId RouteBehind(int32_t item) const { return host_.routes[host_.emit_index[item] + 1]; }
  absl::Span<const EmitChunk> chunks() const { return chunks_; }

  // Device views.
  RowCount tokens() const { return {device_arrays_.num_tokens, Bucket(num_tokens())}; }
  RowCount fills() const { return {device_arrays_.num_fill, Bucket(num_fill())}; }
  StepTokens drafts() const {
    return {{device_arrays_.num_drafts, Bucket(num_drafts())},
            device_arrays_.draft_token_ids,
            device_arrays_.draft_positions,
            device_arrays_.draft_seq_slots};
  }
  RowCount samples() const { return {device_arrays_.num_samples, Bucket(num_samples())}; }

 private:
  StepInputs(Device* device_pointer, int32_t step_tokens, int32_t chunk_rows);
  int32_t Bucket(int32_t rows) const { return StepBucket(rows, step_tokens_); }
  StepArrays Carve(std::byte* base, size_t* bytes) const;
  int32_t chunks_max() const;
  void LayOutEmits(Emit kind);
  void CutChunks(Emit kind, int32_t begin);

  Device& device_;
  const int32_t step_tokens_;
  const int32_t chunk_rows_;
  std::vector<std::byte> staging_;
  DeviceBuffer buffer_;
  StepArrays host_, device_arrays_;
  std::vector<std::pair<const Row*, int32_t>> rows_;  // with the index of each one's first token
  std::vector<int32_t> draft_index_;                  // which tokens of the step are drafts
  std::vector<EmitItem> emits_;
  std::vector<EmitChunk> chunks_;
};

}  // namespace pregate
