#include "scheduler_service/sim/trace.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"

namespace pregate::sim {
namespace {

constexpr absl::string_view kHeader = "TIMESTAMP,ContextTokens,GeneratedTokens";
constexpr size_t kValueShownMax = 40;

absl::Status Bad(int64_t line, absl::string_view column, absl::string_view value,
                 absl::string_view must) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ", ", column, ": '",
                                                 absl::CHexEscape(value.substr(0, kValueShownMax)),
                                                 "', must be ", must));
}

absl::StatusOr<int32_t> ParseCount(int64_t line, absl::string_view column, absl::string_view value,
                                   int32_t max) {
  int32_t count = 0;
  if (!absl::SimpleAtoi(value, &count) || count < 1 || count > max) {
    return Bad(line, column, value, absl::StrCat("an integer within 1..", max));
  }
  return count;
}

}  // namespace

absl::StatusOr<std::vector<TraceRequest>> ParseTrace(absl::string_view csv, int64_t requests_max,
                                                     int32_t tokens_max) {
  std::vector<TraceRequest> requests;
  absl::Time first, last = absl::InfinitePast();
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(csv, '\n')) {
    ++number;
    line = absl::StripSuffix(line, "\r");
    if (number == 1) {
      if (line != kHeader) return Bad(1, "header", line, kHeader);
      continue;
    }
    if (static_cast<int64_t>(requests.size()) == requests_max) break;
    if (line.empty()) continue;
    if (static_cast<int64_t>(requests.size()) == kTraceRequestsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": more than ", kTraceRequestsMax, " requests"));
    }
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ',');
    if (fields.size() != 3) return Bad(number, "row", line, "three columns");
    absl::Time time;
    if (!absl::ParseTime("%Y-%m-%d %H:%M:%E*S", fields[0], &time, nullptr) ||
        time == absl::InfiniteFuture() || time == absl::InfinitePast()) {
      return Bad(number, "TIMESTAMP", fields[0], "like 2023-11-16 18:15:46.68");
    }
    if (time < last) return Bad(number, "TIMESTAMP", fields[0], "no earlier than the line above");
    if (requests.empty()) first = time;
    last = time;
    TraceRequest request;
    request.arrival = time - first;
    ASSIGN_OR_RETURN(request.prompt_tokens,
                     ParseCount(number, "ContextTokens", fields[1], tokens_max));
    ASSIGN_OR_RETURN(request.generated_tokens,
                     ParseCount(number, "GeneratedTokens", fields[2], tokens_max));
    requests.push_back(request);
  }
  if (requests.empty()) return absl::InvalidArgumentError("the trace has no requests");
  return requests;
}

}  // namespace pregate::sim
