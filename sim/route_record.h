// Routes that a router gave over real text, as a file that the simulator replays.
//
//   pregate-routes 1            version
//   experts 5
//   model smollm2-135m-moe5     free text, may be empty
//   text 0*12 3 0*4             one text's routes in order; e*n: n tokens of expert e in a row
//   text 2*7 ...
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/ids.h"

namespace pregate::sim {

inline constexpr int64_t kRecordTokensMax = 1 << 22;

struct RouteRecord {
  int32_t num_experts = 0;
  std::string model;
  std::vector<std::vector<ExpertId>> texts;  // none is empty
};

std::string FormatRoutes(const RouteRecord& record);
// INVALID_ARGUMENT names line and value: another version, an expert out of range, a count below 1, a
// text without routes, no text, or more than kRecordTokensMax tokens.
absl::StatusOr<RouteRecord> ParseRoutes(absl::string_view text);

}  // namespace pregate::sim
