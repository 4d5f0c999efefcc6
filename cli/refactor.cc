// `pregate refactor`: rebuilds a checkpoint from an artifact itself; anything else is training,
// which is the program pregate-refactor's (the only one that links LibTorch), run in this one's
// place.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "common/config/option_set.h"
#include "common/model/checkpoint.h"
#include "refactor/apply.h"

namespace pregate::cli {
namespace {

bool Asks(int argc, const char* const* argv, const std::string& flag) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == flag || std::string(argv[i]).starts_with(flag + "=")) return true;
  }
  return false;
}

std::string TrainerPath() {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  return (self.parent_path() / "pregate-refactor").string();
}

int Train(const char* const* argv) {
  const std::string program = TrainerPath();
  execv(program.c_str(), const_cast<char* const*>(argv));
  return Fail("refactor",
              absl::NotFoundError(absl::StrCat("cannot run ", program, ": ", std::strerror(errno),
                                               "; build it with scripts/build.sh refactor")));
}

int Apply(int argc, const char* const* argv) {
  std::string dense, artifact, out;
  bool force = false, as_json = false;
  OptionSet options("pregate refactor --apply",
                    "Rebuilds a mixture-of-experts checkpoint from a dense model and an artifact.");
  options.String("dense", &dense, "dense model: pregate or HF directory, or GGUF file").Required();
  options.String("apply", &artifact, "artifact written by pregate refactor --artifact").Required();
  options.String("out", &out, "directory of the new checkpoint").Required();
  options.Switch("force", &force, "accept an artifact made from another dense model");
  options.Switch("json", &as_json, "print one JSON object");
  PARSE_OPTIONS_OR_RETURN(options, "refactor", argc, argv);

  auto checkpoint = Checkpoint::Open(dense);
  if (!checkpoint.ok()) return Fail("refactor", checkpoint.status());
  ApplyOptions apply;
  apply.force = force;
  if (absl::Status s = ApplyArtifact(**checkpoint, artifact, out, apply); !s.ok()) {
    return Fail("refactor", s);
  }
  if (as_json) {
    PrintJson({{"out", out}});
  } else {
    std::cerr << "wrote " << out << "\n";
  }
  return kExitOk;
}

}  // namespace

int Refactor(int argc, const char* const* argv) {
  const bool applies = Asks(argc, argv, "--apply");
  if (!applies && Asks(argc, argv, "--help") && access(TrainerPath().c_str(), X_OK) != 0) {
    std::cout << "Cutting a model (--dense --corpus --keep --out) needs " << TrainerPath()
              << ": scripts/build.sh refactor.\n\n";
    return Apply(argc, argv);
  }
  return applies ? Apply(argc, argv) : Train(argv);
}

}  // namespace pregate::cli
