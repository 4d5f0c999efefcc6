// The table of methods (tune.h).
#include "common/base/status.h"
#include "refactor/tune.h"

namespace pregate {
namespace {

constexpr TuneMethod kMethods[] = {
    {.name = "pregate",
     .divergence = 0.8,
     .nll = 0.2,
     .rate = 2e-4,
     .decay = 0,
     .warmup = 0.05,
     .final_rate = 0.1,
     .rounds = 2,
     .round_decay = 0,
     .as_paper = false},
    // docs/PAPER.md, "1. From a dense model to experts"; its tokens are scaled to --tokens.
    {.name = "readme",
     .divergence = 0,
     .nll = 1,
     .rate = 5e-5,
     .decay = 0.01,
     .warmup = 0,
     .final_rate = 0,
     .rounds = 8,
     .round_decay = 0.8,
     .as_paper = true},
};

}  // namespace

absl::Span<const TuneMethod> TuneMethods() { return kMethods; }

absl::StatusOr<TuneMethod> FindTuneMethod(const std::string& name) {
  for (const TuneMethod& method : kMethods) {
    if (name == method.name) return method;
  }
  return absl::InvalidArgumentError(absl::StrCat("method ", name, " is not known"));
}

}  // namespace pregate
