// Which requests are taken: everything that a request can get wrong is refused here, by name,
// before it costs anything. (Authentication, text fields and the digests of a resume are the
// edge's.)
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/sampling.h"

namespace pregate::scheduler {

struct AdmissionLimits {
  int32_t vocab_size = 0;
  int32_t num_experts = 0;     // 0: dense
  int32_t context_tokens = 0;  // prompt + generated
  int32_t kv_tokens = 0;       // positions that the blocks of one home rank hold
  int32_t queue_requests = 0;  // admitted requests that do not run
  int32_t stop_strings = 0;
  int32_t stop_string_bytes = 0;
  int32_t stop_tokens = 0;
};

// A view of a request's fields.
struct AdmissionRequest {
  absl::Span<const TokenId> prompt;
  absl::Span<const TokenId> resume_tokens;   // count as generated
  absl::Span<const ExpertId> resume_routes;  // [resume_tokens] or empty: routed anew
  std::optional<int32_t> max_tokens;
  SamplingParams sampling;
  absl::Span<const std::string> stop_strings;
  absl::Span<const TokenId> stop_tokens;
};

// The most tokens that the request may generate: its own max_tokens, or what the context (and the
// KV memory) leaves. INVALID_ARGUMENT names the field, its value and the bound.
absl::StatusOr<int32_t> CheckRequest(const AdmissionRequest& request,
                                     const AdmissionLimits& limits);

// Requests that are admitted and do not run.
struct QueueLength {
  int32_t all = 0;
  int32_t of_connection = 0;  // that the new request came by
};

// RESOURCE_EXHAUSTED when the queue is full, or when the connection has seven times as many places
// as it leaves free: one connection gets 7/8 of the queue, two 7/15 each, and a new one finds room
// (dynamic thresholds, Choudhury and Hahne, 1998).
absl::Status CheckQueue(const QueueLength& waiting, const AdmissionLimits& limits);

// How long a refused client should wait: the mean time between two requests that leave, of the last
// ones.
class RetryAfter {
 public:
  void RequestLeft(absl::Time now);
  // Between 100 ms and 30 s; 1 s before two requests have left.
  absl::Duration Estimate() const;

 private:
  absl::Time last_ = absl::InfinitePast();
  absl::Duration mean_ = absl::Seconds(1);
};

}  // namespace pregate::scheduler
