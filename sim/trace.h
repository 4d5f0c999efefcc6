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

struct ParsedTrace {
  std::vector<TraceRequest> requests;
  int64_t failed_requests = 0;  // rows that generated nothing; they are not among the requests
};

inline constexpr int64_t kTraceRequestsMax = 1'000'000;
inline constexpr absl::Duration kTraceSpanMax = absl::Hours(24 * 3660);

// CSV (RFC 4180; LF or CRLF, with or without a byte-order mark) whose header names the columns
// TIMESTAMP, ContextTokens and GeneratedTokens, in any order and beside any others. Rows are in
// order of time. A time is like "2023-11-16 18:15:46.6805900": date and time are joined by a space
// or T, fractions may be as long as they like, and "Z" or an offset like +02:00 may follow (UTC
// otherwise). Rows with 0 generated tokens count as failed requests and are left out.
// INVALID_ARGUMENT names line, column and value: a column that is missing, a wrong number of
// fields, no time, a time before the one above or more than kTraceSpanMax after the first, a count
// that is no integer within 1..`tokens_max`, or more than kTraceRequestsMax requests. Reads at most
// `requests_max` requests; what follows is not looked at.
absl::StatusOr<ParsedTrace> ParseTrace(absl::string_view csv, int64_t requests_max,
                                       int32_t tokens_max);

}  // namespace pregate::sim
