// What the mains of the benchmark programs share.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/telemetry/start.h"

namespace pregate {

// Parses the command line into `set`'s targets, then calls `run`, which returns a Status; not after
// --help. Errors go to stderr; returns the exit code (common/telemetry/start.h).
template <class Run>
int BenchMain(const std::string& program, OptionSet& set, int argc, char** argv, Run run) {
  const auto parse_and_run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const OptionSet::Outcome outcome, set.Parse(argc, argv));
    return outcome == OptionSet::Outcome::kExit ? absl::OkStatus() : run();
  };
  return ExitCode(program, parse_and_run());
}

// The values of a list option as numbers from 1 (or 0) to `max`. INVALID_ARGUMENT names option and value.
inline absl::StatusOr<std::vector<int>> Numbers(const std::string& option,
                                                const std::vector<std::string>& values, int max,
                                                int min = 1) {
  std::vector<int> numbers;
  for (const std::string& value : values) {
    if (!absl::SimpleAtoi(value, &numbers.emplace_back()) || numbers.back() < min ||
        numbers.back() > max) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", option, ": '", value, "' is no number in ", min, "..", max));
    }
  }
  return numbers;
}

}  // namespace pregate
