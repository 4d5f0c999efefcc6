// A trace of requests: when each arrives, how long its prompt is, how much it generates.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate::sim {

struct TraceRequest {
  absl::Duration arrival;  // since the first request
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;
};

inline constexpr int64_t kTraceRequestsMax = 1'000'000;

// CSV with the header "TIMESTAMP,ContextTokens,GeneratedTokens" and rows like
// "2023-11-16 18:15:46.6805900,374,44" in order of time. INVALID_ARGUMENT names line, column and
// value: another header, a wrong number of columns, no time, a time before the one above, a count
// that is no integer within 1..`tokens_max`, or more than kTraceRequestsMax rows. Reads at most
// `requests_max` rows; what follows is not looked at.
absl::StatusOr<std::vector<TraceRequest>> ParseTrace(absl::string_view csv, int64_t requests_max,
                                                     int32_t tokens_max);

}  // namespace pregate::sim
