// Reads the Prometheus text exposition format. The text comes from the network and is taken for
// hostile: sizes are bounded, errors name the line.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate::cli {

inline constexpr size_t kExpositionBytesMax = 8 << 20;
inline constexpr size_t kExpositionSamplesMax = 100'000;
inline constexpr size_t kSampleLabelsMax = 32;

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;  // may be infinite or NaN
};

// In the order of the text; comments and timestamps are dropped. INVALID_ARGUMENT for anything that
// is not the format or beyond the bounds above.
absl::StatusOr<std::vector<Sample>> ParseExposition(absl::string_view text);

}  // namespace pregate::cli
