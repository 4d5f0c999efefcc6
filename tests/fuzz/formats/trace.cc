#include "sim/trace.h"

#include "tests/fuzz/format.h"

namespace pregate::fuzz::trace {
namespace {

bool Run(std::string_view input) { return sim::ParseTrace(AbslView(input), 100, 1000).ok(); }

std::vector<std::string> Seeds() {
  return {
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\r\n"
      "2023-11-16 18:15:50.6805900,396,109\n"};
}

const Registration registration({.name = "trace", .seeds = Seeds, .run = Run, .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::trace
