// A line typed into `pregate chat`.
#include "cli/chat_lines.h"
#include "common/base/status.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::chat_line {
namespace {

bool Run(std::string_view input) {
  const cli::ChatLine line = cli::ParseChatLine(AbslView(input));
  PREGATE_CHECK(line.kind != cli::ChatLine::kMistake || !line.text.empty());
  return line.kind != cli::ChatLine::kMistake;
}

std::vector<std::string> Seeds() {
  return {"Hello", "/system Be brief.", "/seed 7", "//slash", "/reset", "/help", "/quit", ""};
}

const Registration registration(
    {.name = "chat_line", .seeds = Seeds, .run = Run, .bytes_max = 512});

}  // namespace
}  // namespace pregate::fuzz::chat_line
