// What `pregate refactor` is asked for, in whichever program it runs.
#pragma once

#include <optional>
#include <string>

#include "common/config/option_set.h"
#include "refactor/refactor_run.h"

namespace pregate {

struct RefactorFlags {
  std::string dense, out;
  std::string apply;     // an artifact to rebuild a checkpoint from; or else:
  std::string artifact;  // where to write what the run makes
  bool force = false, as_json = false;
  int32_t threads = 2;
  std::optional<uint64_t> seed;
  RefactorOptions run;
};

void DeclareRefactorOptions(OptionSet& set, RefactorFlags* flags);

}  // namespace pregate
