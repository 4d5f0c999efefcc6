// What a scraped port answers.
#include "cli/top/exposition.h"

#include "common/base/status.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::exposition {
namespace {

bool Run(std::string_view input) {
  const auto samples = cli::ParseExposition(AbslView(input));
  if (!samples.ok()) return false;
  for (const cli::Sample& sample : *samples) {
    PREGATE_CHECK(!sample.name.empty() && sample.labels.size() <= cli::kSampleLabelsMax);
  }
  return true;
}

std::vector<std::string> Seeds() {
  return {
      "# HELP a A\n# TYPE a counter\n\na 1\na_total{} 2.5\r\n"
      "b:c{x=\"1\",y=\"\"} -3e2 1700000000000\n"
      "  d { x = \"say \\\"hi\\\" \\\\ \\n{},=#\" , }\t+Inf  \ne NaN\nf{le=\"+Inf\"} 7"};
}

const Registration registration(
    {.name = "exposition", .seeds = Seeds, .run = Run, .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::exposition
