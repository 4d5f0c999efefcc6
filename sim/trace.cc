#include "sim/trace.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "sim/csv.h"

namespace pregate::sim {
namespace {

enum Column { kTime, kPrompt, kGenerated, kNumColumns };
constexpr const char* kNames[] = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"};
constexpr size_t kValueShownMax = 40;

absl::Status Bad(int64_t line, absl::string_view column, absl::string_view value,
                 absl::string_view must) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ", ", column, ": '",
                                                 absl::CHexEscape(value.substr(0, kValueShownMax)),
                                                 "', must be ", must));
}

bool AreDigits(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// Years have four digits: absl::ParseTime would take any number, and give infinities for some.
bool ParseInstant(absl::string_view text, absl::Time* time) {
  constexpr size_t kYear = 4, kDate = 10;
  if (text.size() <= kDate || !AreDigits(text.substr(0, kYear)) || text[kYear] != '-') return false;
  std::string joined(text);
  if (joined[kDate] == 'T' || joined[kDate] == 't') joined[kDate] = ' ';
  if (joined.back() == 'z') joined.back() = 'Z';
  const char* const formats[] = {"%Y-%m-%d %H:%M:%E*S", "%Y-%m-%d %H:%M:%E*S%Ez",
                                 "%Y-%m-%d %H:%M:%E*S %Ez"};
  return std::any_of(std::begin(formats), std::end(formats), [&](const char* format) {
    return absl::ParseTime(format, joined, time, nullptr);
  });
}

// One pass over the rows of a trace.
class TraceReader {
 public:
  TraceReader(std::string_view text, int32_t tokens_max) : csv_(text), tokens_max_(tokens_max) {}

  absl::Status ReadHeader() {
    ASSIGN_OR_RETURN(const bool found, csv_.Next());
    if (found) columns_ = csv_.fields();
    for (int column = 0; column < kNumColumns; ++column) {
      const auto it = std::find(columns_.begin(), columns_.end(), kNames[column]);
      if (it == columns_.end()) {
        return Bad(1, "header", absl::StrJoin(columns_, ","),
                   absl::StrCat("names with ", kNames[column], " among them"));
      }
      index_[column] = it - columns_.begin();
    }
    return absl::OkStatus();
  }

  // False at the end.
  absl::StatusOr<bool> ReadRow(ParsedTrace* trace) {
    ASSIGN_OR_RETURN(const bool found, csv_.Next());
    if (!found) return false;
    if (csv_.fields().size() != columns_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", csv_.line(), ", row: ", csv_.fields().size(),
                       " fields, the header has ", columns_.size(), " columns"));
    }
    TraceRequest request;
    ASSIGN_OR_RETURN(request.arrival, ReadArrival());
    ASSIGN_OR_RETURN(request.generated_tokens, ReadCount(kGenerated, 0));
    const bool failed = request.generated_tokens == 0;
    ASSIGN_OR_RETURN(request.prompt_tokens, ReadCount(kPrompt, failed ? 0 : 1));
    if (failed) {
      ++trace->failed_requests;
    } else if (static_cast<int64_t>(trace->requests.size()) < kTraceRequestsMax) {
      trace->requests.push_back(request);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", csv_.line(), ": more than ", kTraceRequestsMax, " requests"));
    }
    return true;
  }

 private:
  absl::string_view Field(Column column) const { return csv_.fields()[index_[column]]; }

  absl::Status BadField(Column column, absl::string_view must) const {
    return Bad(csv_.line(), kNames[column], Field(column), must);
  }

  absl::StatusOr<int32_t> ReadCount(Column column, int32_t min) const {
    int32_t count = 0;
    if (absl::SimpleAtoi(Field(column), &count) && count >= min && count <= tokens_max_) {
      return count;
    }
    return BadField(column, absl::StrCat("an integer within ", min, "..", tokens_max_));
  }

  absl::StatusOr<absl::Duration> ReadArrival() {
    absl::Time time;
    if (!ParseInstant(Field(kTime), &time)) {
      return BadField(kTime, "like 2023-11-16 18:15:46.68, with or without a zone like +00:00");
    }
    if (time < last_) return BadField(kTime, "no earlier than the row above");
    first_ = std::min(first_, time);
    last_ = time;
    if (time - first_ > kTraceSpanMax) {
      return BadField(kTime, absl::StrCat("within ", absl::ToInt64Hours(kTraceSpanMax) / 24,
                                          " days of the first"));
    }
    return time - first_;
  }

  CsvReader csv_;
  const int32_t tokens_max_;
  std::vector<std::string> columns_;
  size_t index_[kNumColumns] = {};  // of a column among a row's fields
  absl::Time first_ = absl::InfiniteFuture(), last_ = absl::InfinitePast();
};

}  // namespace

absl::StatusOr<ParsedTrace> ParseTrace(absl::string_view csv, int64_t requests_max,
                                       int32_t tokens_max) {
  ASSIGN_OR_RETURN(const std::string_view text, TextOf({csv.data(), csv.size()}, "the trace"));
  TraceReader reader(text, tokens_max);
  RETURN_IF_ERROR(reader.ReadHeader());
  ParsedTrace trace;
  for (bool more = true; more && static_cast<int64_t>(trace.requests.size()) < requests_max;) {
    ASSIGN_OR_RETURN(more, reader.ReadRow(&trace));
  }
  if (trace.requests.empty()) return absl::InvalidArgumentError("the trace has no requests");
  // Time begins with the first request that is played.
  const absl::Duration begin = trace.requests.front().arrival;
  for (TraceRequest& request : trace.requests) request.arrival -= begin;
  return trace;
}

}  // namespace pregate::sim
