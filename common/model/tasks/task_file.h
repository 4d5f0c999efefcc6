// Zero-shot task files (JSON lines) as (context, continuation) pairs to be scored. Pure but for
// reading the file.
//
//   {"query", "choices", "gold"}                      -> context = query [+ "\nAnswer:"],
//   continuation = " " + choice
//   {"context_options", "continuation", "gold"}       -> one context a choice, the same
//   continuation
//   {"context", "continuation"}                       -> right when every token of the continuation
//   is the argmax
// "\nAnswer:" stands between where the query has the form "Question: ..."; otherwise a blank does.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

struct TaskChoice {
  std::string context;
  std::string continuation;
};

struct TaskItem {
  std::vector<TaskChoice> choices;  // one when the item is a greedy match
  int gold = 0;
};

// Lines end with LF or CRLF, blank ones do not count, nor does a byte-order mark before the first.
// Errors name file, line and field.
absl::StatusOr<std::vector<TaskItem>> ReadTaskFile(const std::string& path);
absl::StatusOr<TaskItem> ParseTaskLine(std::string_view line);

}  // namespace pregate
