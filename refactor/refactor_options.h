// What `pregate refactor` is asked for, in whichever program it runs.
#pragma once

#include <optional>
#include <string>

#include "common/config/option_set.h"
#include "refactor/refactor_run.h"

namespace pregate {

struct RefactorFlags {
  std::string dense;
  std::string apply;  // an artifact to rebuild a checkpoint from; or else run:
  bool force = false, as_json = false;
  int32_t threads = 0;
  std::optional<uint64_t> seed;
  std::string router_loss = "code";
  std::vector<std::string> keep_layers;
  double text_loss = -1;
  RefactorOptions run;
};

// Of `pregate refactor`: a run, or --apply.
void DeclareRefactorOptions(OptionSet& set, RefactorFlags* flags);
// Of `pregate refactor run`.
void DeclareRefactorRunOptions(OptionSet& set, RefactorFlags* flags);

// Fills in what depends on other options. InvalidArgument where there is no --corpus, or for
// baselines that are not known or do not go with the rest.
absl::Status CompleteRunOptions(RefactorFlags* flags, const std::string& command);

}  // namespace pregate
