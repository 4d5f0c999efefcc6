#include "sim/cost_file.h"

#include <cmath>

#include "common/base/status.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::cost_file {
namespace {

constexpr char kSeed[] = R"({"machine": "two cores", "source": "measured",
  "model": {"layers": 2, "experts": 4},
  "step": {"base_s": 0.001, "token_s": 1e-4, "expert_read_s": 1e-5, "key_s": 1e-7, "pair_s": 1e-8,
           "sample_s": 1e-4},
  "unit": {"load_s": 0.002}, "router": {"request_s": 1e-4, "token_s": 1e-5}, "link_s": 1e-4})";

bool Run(std::string_view input) {
  const auto costs = sim::ParseCosts(AbslView(input));
  if (!costs.ok()) return false;
  PREGATE_CHECK(costs->layers > 0 && costs->experts > 0);
  PREGATE_CHECK(std::isfinite(costs->base_s + costs->token_s + costs->unit_load_s));
  return true;
}

const Registration registration({.name = "cost_file",
                                 .seeds = [] { return std::vector<std::string>{kSeed}; },
                                 .run = Run,
                                 .mutate = MutateJson,
                                 .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::cost_file
