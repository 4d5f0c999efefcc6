#include "sim/route_record.h"

#include "common/base/status.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::route_record {
namespace {

// What is read is written as it would be read again.
bool Run(std::string_view input) {
  const auto record = sim::ParseRoutes(AbslView(input));
  if (!record.ok()) return false;
  const auto again = sim::ParseRoutes(sim::FormatRoutes(*record));
  PREGATE_CHECK(again.ok() && again->texts == record->texts, "it is written as something else");
  return true;
}

std::vector<std::string> Seeds() {
  return {"pregate-routes 1\nexperts 5\nmodel tiny\ntext 0*12 3 0*4\ntext 2*7\n"};
}

const Registration registration(
    {.name = "route_record", .seeds = Seeds, .run = Run, .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::route_record
