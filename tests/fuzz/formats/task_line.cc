#include "common/base/status.h"
#include "common/model/tasks/task_file.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::task_line {
namespace {

bool Run(std::string_view input) {
  const auto item = ParseTaskLine(input);
  if (!item.ok()) return false;
  PREGATE_CHECK(!item->choices.empty());
  PREGATE_CHECK(item->gold >= 0 && item->gold < static_cast<int>(item->choices.size()));
  return true;
}

std::vector<std::string> Seeds() {
  return {R"({"query": "Question: Which?\n", "choices": ["this", "that"], "gold": 1})",
          R"({"context_options": ["so Sarah", "so Maria"], "continuation": "won.", "gold": 0})",
          R"({"context": "I don't care about", "continuation": "signs"})"};
}

const Registration registration(
    {.name = "task_line", .seeds = Seeds, .run = Run, .mutate = MutateJson, .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::task_line
