// pregate-refactor: what `pregate refactor run` runs, and `pregate refactor` for all but --apply.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "absl/strings/str_format.h"
#include "common/base/clock.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/dense_forward.h"
#include "refactor/refactor_options.h"
#include "refactor/refactor_run.h"

namespace pregate {
namespace {

absl::Status Run(RefactorFlags& flags, const std::string& command) {
  RETURN_IF_ERROR(CompleteRunOptions(&flags, command));
  flags.run.commit = Commit();
  SetComputeThreads(flags.threads);
  SystemClock clock;
  ASSIGN_OR_RETURN(const auto dense, Checkpoint::Open(flags.dense));
  RETURN_IF_ERROR(RunRefactor(*dense, flags.run, clock, std::cerr));
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  std::cerr << absl::StrFormat("%d s of processor time, %d MB of memory at most\n",
                               used.ru_utime.tv_sec + used.ru_stime.tv_sec, used.ru_maxrss / 1024);
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
  pregate::DeclareRefactorRunOptions(options, &flags);
  const auto outcome = options.Parse(argc, argv);
  if (!outcome.ok()) {
    std::cerr << "pregate refactor: " << outcome.status().message() << " (see --help)\n";
    return 2;
  }
  const bool answered = *outcome == pregate::OptionSet::Outcome::kExit;
  absl::Status status =
      answered ? absl::OkStatus() : pregate::Run(flags, options.ToText(/*given_only=*/true));
  if (status.ok()) status = pregate::FlushStandardOutput();
  if (!status.ok()) {
    std::cerr << "pregate refactor: " << status.message() << "\n";
    return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;  // as pregate's
  }
  return 0;
}
