// pregate-refactor: what `pregate refactor` runs for all but --apply.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_format.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/checkpoint.h"
#include "refactor/apply.h"
#include "refactor/dense_forward.h"
#include "refactor/refactor_run.h"

namespace pregate {
namespace {

struct Flags {
  std::string dense, out, artifact;
  int32_t threads = 2;
  std::optional<uint64_t> seed;
  RefactorOptions run;
};

void Declare(OptionSet& options, Flags& flags) {
  RefactorOptions& run = flags.run;
  options.String("dense", &flags.dense, "dense model: pregate or HF directory, or GGUF file")
      .Required();
  options
      .String("corpus", &run.corpus_dir,
              "directory with a sub-folder or .txt file for each domain; each gets an expert")
      .Required();
  options.String("out", &flags.out, "directory of the new checkpoint").Required();
  options.String("artifact", &flags.artifact,
                 "also write what differs from the dense model to this file");
  options.Double("keep", &run.fit.keep, 0, 1, "of a layer's neurons", "kept by each expert");
  options.OptionalUint64("seed", &flags.seed, "of the router's weights and batches (0)");
  options.Int("windows", &run.corpus.windows_per_domain, 1, 1 << 20, "windows a domain",
              "calibration text taken, evenly spread; time is about proportional");
  options.Int("window-tokens", &run.corpus.window_tokens, 16, 8192, "tokens",
              "context of a calibration window");
  options.Double("hold-out", &run.corpus.hold_out, 0, 0.9, "of each domain",
                 "the last part, which is never read, so that it can evaluate the result");
  options.Double("blend", &run.fit.blend, 0, 1, "",
                 "how far experts specialise on the tokens that suit them, not their domain");
  options.Int("rounds", &run.fit.rounds, 0, 20, "rounds", "of assigning tokens to experts");
  options.Int("refit-windows", &run.refit_windows_per_domain, 0, 1 << 20, "windows a domain",
              "for the scales of down_proj's columns; 0 leaves them as they are");
  options.Int("router-hidden", &run.router.hidden, 8, 4096, "channels", "width of the router");
  options.Int("router-steps", &run.router.steps, 1, 1 << 20, "steps", "of training it");
  options.Int("router-batch", &run.router.batch_windows, 1, 4096, "windows", "in a step");
  options.Double("persistence", &run.router.persistence, 0, 1, "",
                 "weight of the token before in a token's target; more means fewer switches");
  options.Int("threads", &flags.threads, 1, 1024, "threads", "to compute with");
}

// Where there is room for the checkpoint there is room for the activation log.
std::string ParentOf(const std::string& out) {
  std::filesystem::path path = std::filesystem::absolute(out).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  return path.parent_path().string();
}

absl::Status Run(Flags& flags) {
  RefactorOptions& run = flags.run;
  run.fit.num_threads = flags.threads;
  run.router.seed = flags.seed.value_or(0);
  run.commit = PREGATE_COMMIT;
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
  pregate::RestartWithPatientThreads(argv);
  pregate::KeepFreedMemory();
  pregate::Flags flags;
  pregate::OptionSet options(
      "pregate refactor",
      "Turns a dense model into a mixture of experts with a router. With --apply FILE "
      "it rebuilds one from such a run's artifact instead: see --apply --help.");
  pregate::Declare(options, flags);
  const auto outcome = options.Parse(argc, argv);
  if (!outcome.ok()) {
    std::cerr << "pregate refactor: " << outcome.status().message() << " (see --help)\n";
    return 2;
  }
  if (*outcome == pregate::OptionSet::Outcome::kExit) return 0;
  if (const absl::Status status = pregate::Run(flags); !status.ok()) {
    std::cerr << "pregate refactor: " << status.message() << "\n";
    return 1;
  }
  return 0;
}
