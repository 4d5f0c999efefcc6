// `pregate refactor`: rebuilds a checkpoint from an artifact itself; anything else, and `pregate
// refactor run`, is the program pregate-refactor's (the only one that links LibTorch), run in this
// one's place.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "cli/progress.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/apply.h"
#include "refactor/refactor_options.h"

namespace pregate::cli {
namespace {

// Only returns where it fails. A file that --config names may be a pipe, which has been read: the
// program gets all that was given as flags.
absl::Status RunInItsPlace(const OptionSet& options) {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string program = (self.parent_path() / "pregate-refactor").string();
  std::vector<std::string> args = options.ToArguments();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  unsetenv("PREGATE_CONFIG");
  execv(program.c_str(), argv.data());
  return absl::NotFoundError(absl::StrCat("--corpus: cannot run ", program, ": ",
                                          std::strerror(errno),
                                          "; build it with scripts/build.sh refactor"));
}

absl::Status Named(const char* option, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(option, ": ", status.message()));
}

absl::Status Apply(const RefactorFlags& flags) {
  const auto checkpoint = Checkpoint::Open(flags.dense);
  if (!checkpoint.ok()) return Named("--dense", checkpoint.status());
  const auto artifact = ReadArtifact(flags.apply);
  if (!artifact.ok()) return Named("--apply", artifact.status());
  ProgressLine line("writing MB", flags.as_json);
  ApplyOptions apply{.force = flags.force, .progress = [&](const WriteProgress& p) {
                       line.Update(p.bytes_done >> 20, p.bytes_total >> 20);
                     }};
  RETURN_IF_ERROR(ApplyArtifact(**checkpoint, *artifact, flags.run.out, apply));
  if (flags.as_json) {
    PrintJson({{"out", flags.run.out}});
  } else {
    std::cerr << "wrote " << flags.run.out << "\n";
  }
  return absl::OkStatus();
}

// `pregate refactor run`. A first word that is no flag is the file that --config names.
int RefactorRun(int argc, const char* const* argv) {
  std::vector<std::string> args(argv, argv + argc);
  if (args.size() > 1 && args[1][0] != '-') args[1] = "--config=" + args[1];
  std::vector<const char*> pointers;
  for (const std::string& arg : args) pointers.push_back(arg.c_str());
  RefactorFlags flags;
  OptionSet options(
      "pregate refactor run",
      "Turns a dense model into a mixture of experts with a router, tuned on text by "
      "domain; goes on where it was stopped. FILE.toml may stand first, for --config.");
  DeclareRefactorRunOptions(options, &flags);
  PARSE_OPTIONS_OR_RETURN(options, "refactor run", argc, pointers.data());
  if (flags.run.corpus_dir.empty()) {
    return FailUsage("refactor run", absl::InvalidArgumentError("--corpus is required"));
  }
  return Fail("refactor run", RunInItsPlace(options));
}

}  // namespace

int Refactor(int argc, const char* const* argv) {
  if (argc > 1 && std::string_view(argv[1]) == "run") return RefactorRun(argc - 1, argv + 1);
  RefactorFlags flags;
  OptionSet options("pregate refactor",
                    "Turns a dense model into a mixture of experts with a router: by cutting it "
                    "with --corpus, or again as an earlier run did with --apply. `pregate "
                    "refactor run [FILE.toml]` is the first, with a file of options.");
  DeclareRefactorOptions(options, &flags);
  PARSE_OPTIONS_OR_RETURN(options, "refactor", argc, argv);
  if (flags.apply.empty() && flags.run.corpus_dir.empty()) {
    return FailUsage("refactor", absl::InvalidArgumentError("give either --corpus or --apply"));
  }
  const absl::Status status = flags.apply.empty() ? RunInItsPlace(options) : Apply(flags);
  return status.ok() ? kExitOk : Fail("refactor", status);
}

}  // namespace pregate::cli
