#include "sim/route_record.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate::sim {
namespace {

constexpr absl::string_view kHeader = "pregate-routes 1";

absl::Status Bad(int64_t line, absl::string_view value, absl::string_view must) {
  constexpr size_t kShown = 40;
  return absl::InvalidArgumentError(
      absl::StrCat("line ", line, ": '", value.substr(0, kShown), "' must be ", must));
}

// Adds the tokens of "3" or "3*12".
absl::Status ReadRun(absl::string_view run, int64_t line, int32_t num_experts, int64_t tokens_max,
                     std::vector<ExpertId>* routes) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(run, absl::MaxSplits('*', 1));
  int32_t expert = 0;
  int64_t count = 1;
  if (!absl::SimpleAtoi(parts.first, &expert) || expert < 0 || expert >= num_experts) {
    return Bad(line, run, absl::StrCat("an expert within 0..", num_experts - 1, ", or e*n"));
  }
  if (run.size() > parts.first.size() && (!absl::SimpleAtoi(parts.second, &count) || count < 1)) {
    return Bad(line, run, "e*n with n of at least 1");
  }
  if (count > tokens_max) {
    return Bad(line, run, absl::StrCat("within the file's ", kRecordTokensMax, " tokens"));
  }
  routes->insert(routes->end(), count, expert);
  return absl::OkStatus();
}

}  // namespace

std::string FormatRoutes(const RouteRecord& record) {
  std::string out =
      absl::StrCat(kHeader, "\nexperts ", record.num_experts, "\nmodel ", record.model, "\n");
  for (const std::vector<ExpertId>& text : record.texts) {
    absl::StrAppend(&out, "text");
    for (size_t begin = 0, end; begin < text.size(); begin = end) {
      for (end = begin + 1; end < text.size() && text[end] == text[begin];) ++end;
      absl::StrAppend(&out, " ", text[begin]);
      if (end - begin > 1) absl::StrAppend(&out, "*", end - begin);
    }
    absl::StrAppend(&out, "\n");
  }
  return out;
}

absl::StatusOr<RouteRecord> ParseRoutes(absl::string_view text) {
  RouteRecord record;
  int64_t line = 0, tokens = 0;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++line;
    absl::ConsumeSuffix(&row, "\r");
    if (line == 1) {
      if (row != kHeader) return Bad(line, row, absl::StrCat("'", kHeader, "'"));
    } else if (absl::ConsumePrefix(&row, "experts ")) {
      if (!absl::SimpleAtoi(row, &record.num_experts) || record.num_experts < 1 ||
          record.num_experts > kExpertsMax) {
        return Bad(line, row, absl::StrCat("a number of experts within 1..", kExpertsMax));
      }
    } else if (absl::ConsumePrefix(&row, "model")) {
      record.model = std::string(absl::StripLeadingAsciiWhitespace(row));
    } else if (absl::ConsumePrefix(&row, "text ")) {
      if (record.num_experts == 0) return Bad(line, "text", "behind a line 'experts N'");
      std::vector<ExpertId> routes;
      for (absl::string_view run : absl::StrSplit(row, ' ', absl::SkipEmpty())) {
        RETURN_IF_ERROR(ReadRun(run, line, record.num_experts,
                                kRecordTokensMax - tokens - static_cast<int64_t>(routes.size()),
                                &routes));
      }
      if (routes.empty()) return Bad(line, "text", "followed by routes");
      tokens += static_cast<int64_t>(routes.size());
      record.texts.push_back(std::move(routes));
    } else if (!row.empty()) {
      return Bad(line, row, "a line 'experts N', 'model NAME' or 'text ROUTES'");
    }
  }
  if (record.texts.empty()) return absl::InvalidArgumentError("the file has no routes");
  return record;
}

}  // namespace pregate::sim
