// Dense → MoE, all stages:
//
//   corpus ─▶ dense forward ─▶ activation log ─▶ neuron sets, token scores ─▶ router
//                        └──▶ Gram sums (some windows) ─▶ scales ─┴─▶ artifact
#pragma once

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/artifact.h"
#include "refactor/corpus.h"
#include "refactor/expert_fit.h"
#include "refactor/router_train.h"

namespace pregate {

struct RefactorOptions {
  std::string corpus_dir;
  std::string scratch_dir;  // for the activation log: a byte per token, layer and neuron
  CorpusOptions corpus;
  ExpertFitOptions fit;
  RouterTrainOptions router;
  int refit_windows_per_domain = 6;  // 0: leave the columns of down_proj as they are
  double refit_ridge = 0.01;
  std::string commit;  // of this program, for the provenance
};

// Single-threaded but for LibTorch's and the fit's threads. Reports on `out`.
absl::StatusOr<Artifact> RunRefactor(const Checkpoint& dense, const RefactorOptions& options,
                                     Clock& clock, std::ostream& out);

}  // namespace pregate
