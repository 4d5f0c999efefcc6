// What every program does at its start and end: print its options and limits, turn a status into an
// exit code, name its model.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/config/option_set.h"
#include "common/telemetry/log.h"

namespace pregate {

// Version and the options that were given; at level debug all options and all limits of
// common/base/limits.h, which --print-config has too.
void LogStart(const Log& log, const OptionSet& options);

// 0 for OK, if what went to stdout has arrived; else prints the message to stderr and returns 2 for
// a mistake of the caller (INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, UNIMPLEMENTED), 1 for
// anything else.
int ExitCode(absl::string_view program, const absl::Status& status);

// For a port that cannot be reached any more: says why and ends the process, so that whoever
// supervises it starts it again. `log` outlives the function.
std::function<void(const absl::Status& why)> ExitWhenUnreachable(const Log* log);

// "models/smollm2-moe/" -> "smollm2-moe", "a/b.gguf" -> "b".
std::string ModelNameOf(const std::string& model_path);
// `name`, or where it is empty that.
std::string ModelName(const std::string& name, const std::string& model_path);

}  // namespace pregate
