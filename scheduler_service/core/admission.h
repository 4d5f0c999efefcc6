// Which requests are taken: everything that a request can get wrong is refused here, by name,
// before it costs anything. (Authentication, text fields and the digests of a resume are the
// edge's.)
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/step/control.h"
#include "scheduler_service/core/request.h"

namespace pregate::scheduler {

// The most tokens that the request may generate: its own max_tokens, or what the context (and the
// KV memory) leaves. INVALID_ARGUMENT names the field, its value and the bound.
absl::StatusOr<int32_t> CheckRequest(const GenerateRequest& request, const WorkerFacts& cell);

// Requests that are admitted and do not run.
struct QueueLength {
  int32_t all = 0;
  int32_t of_client = 0;  // whose the new request is
};

// RESOURCE_EXHAUSTED when `queue_max` requests wait, or when the client has seven times as many places
// as it leaves free: one client gets 7/8 of the queue, two 7/15 each, and a new one finds room
// (dynamic thresholds, Choudhury and Hahne, 1998).
absl::Status CheckQueue(const QueueLength& waiting, int32_t queue_max);

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
