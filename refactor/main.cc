// pregate-refactor: what `pregate refactor` runs for all but --apply.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <thread>

#include "absl/strings/str_format.h"
#include "common/base/clock.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/apply.h"
#include "refactor/dense_forward.h"
#include "refactor/refactor_options.h"
#include "refactor/refactor_run.h"

namespace pregate {
namespace {

// Where there is room for the checkpoint there is room for the activation log.
std::string ParentOf(const std::string& out) {
  std::filesystem::path path = std::filesystem::absolute(out).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  return path.parent_path().string();
}

absl::Status Run(RefactorFlags& flags) {
  if (flags.run.corpus_dir.empty()) {
    return absl::InvalidArgumentError("--corpus is required; pregate refactor takes --apply");
  }
  RefactorOptions& run = flags.run;
  if (flags.threads == 0) flags.threads = std::max(1u, std::thread::hardware_concurrency());
  run.fit.num_threads = flags.threads;
  run.router.seed = flags.seed.value_or(0);
  run.commit = Commit();
  run.scratch_dir = ParentOf(flags.out);
  SetComputeThreads(flags.threads);
  SystemClock clock;
  ASSIGN_OR_RETURN(const auto dense, Checkpoint::Open(flags.dense));
  ASSIGN_OR_RETURN(const Artifact artifact, RunRefactor(*dense, run, clock, std::cerr));
  if (!flags.artifact.empty()) {
    RETURN_IF_ERROR(WriteArtifact(artifact, DType::kF16, flags.artifact));
    // The checkpoint is made of what the file holds, so that --apply gives the same one.
    RETURN_IF_ERROR(ApplyArtifact(*dense, flags.artifact, flags.out, {}));
  } else {
    RETURN_IF_ERROR(ApplyArtifact(*dense, artifact, flags.out, {}));
  }

  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  std::cerr << absl::StrFormat("wrote %s; %d s of processor time, %d MB of memory at most\n",
                               flags.out, used.ru_utime.tv_sec + used.ru_stime.tv_sec,
                               used.ru_maxrss / 1024);
  return absl::OkStatus();
}

// LibTorch's OpenMP threads spin between parallel regions unless told otherwise, and take the cores
// from the BLAS library's own threads. OpenMP reads the variable before main, hence the restart.
void RestartWithPatientThreads(char** argv) {
  constexpr const char* kVariable = "OMP_WAIT_POLICY";
  if (std::getenv(kVariable) != nullptr) return;
  setenv(kVariable, "passive", 1);
  execv("/proc/self/exe", argv);  // where this fails the program is slower, no more
}

// Activations are large and short-lived: keep their memory instead of giving it back and faulting
// it in again for each.
void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::PrepareProcess();
  pregate::RestartWithPatientThreads(argv);
  pregate::KeepFreedMemory();
  pregate::RefactorFlags flags;
  pregate::OptionSet options("pregate-refactor", "Runs what pregate refactor asks it to.");
  pregate::DeclareRefactorOptions(options, &flags);
  const auto outcome = options.Parse(argc, argv);
  if (!outcome.ok()) {
    std::cerr << "pregate refactor: " << outcome.status().message() << " (see --help)\n";
    return 2;
  }
  const bool answered = *outcome == pregate::OptionSet::Outcome::kExit;
  absl::Status status = answered ? absl::OkStatus() : pregate::Run(flags);
  if (status.ok()) status = pregate::FlushStandardOutput();
  if (!status.ok()) {
    std::cerr << "pregate refactor: " << status.message() << "\n";
    return 1;
  }
  return 0;
}
