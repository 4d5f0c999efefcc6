// What the mains of the benchmark programs share.
#pragma once

#include <string>

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

}  // namespace pregate
