// The commands of `pregate`: one function each, in a file of its own, and the table of them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "nlohmann/json_fwd.hpp"

namespace pregate::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // the work failed; the reason is on stderr
inline constexpr int kExitUsage = 2;   // the command line, or what it names, is wrong

// argv[0] is the command's own name. Returns an exit code.
using CommandFn = int (*)(int argc, const char* const* argv);

int Serve(int argc, const char* const* argv);
int Generate(int argc, const char* const* argv);
int Chat(int argc, const char* const* argv);
int Top(int argc, const char* const* argv);
int Trace(int argc, const char* const* argv);
int Health(int argc, const char* const* argv);
int CertsInit(int argc, const char* const* argv);
int CertsRenew(int argc, const char* const* argv);
int CertsShow(int argc, const char* const* argv);
int ApiTokenNew(int argc, const char* const* argv);
int Refactor(int argc, const char* const* argv);
int Import(int argc, const char* const* argv);
int Logits(int argc, const char* const* argv);
int Tokenize(int argc, const char* const* argv);
int EvalPpl(int argc, const char* const* argv);
int EvalTask(int argc, const char* const* argv);
int RoutesRecord(int argc, const char* const* argv);
int Simulate(int argc, const char* const* argv);
int Inspect(int argc, const char* const* argv);
int Synth(int argc, const char* const* argv);
int Completion(int argc, const char* const* argv);

struct Command {
  const char* group;  // first word, or "" where the name alone is the command
  const char* name;
  const char* summary;
  CommandFn run;
};
// All of this build, in the order in which help shows them.
absl::Span<const Command> Commands();

// Prints "pregate COMMAND: message" to stderr, for which text of a server may be part of the
// message. The code is kExitUsage for INVALID_ARGUMENT (an option's value, a file's content, a
// request that a server refuses as wrong), else kExitFailed.
int Fail(const std::string& command, const absl::Status& status);
// The same with kExitUsage and a hint to --help.
int FailUsage(const std::string& command, const absl::Status& status);
// Prints one JSON value and a newline to stdout; invalid UTF-8 becomes U+FFFD.
void PrintJson(const nlohmann::json& value);

// Parses with OptionSet `set`; on anything but "go on" returns the exit code from the command.
#define PARSE_OPTIONS_OR_RETURN(set, command, argc, argv)                  \
  do {                                                                     \
    auto _outcome = (set).Parse(argc, argv);                               \
    if (!_outcome.ok()) return FailUsage(command, _outcome.status());      \
    if (*_outcome == ::pregate::OptionSet::Outcome::kExit) return kExitOk; \
  } while (0)

}  // namespace pregate::cli
