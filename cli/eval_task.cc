// `pregate eval task`: zero-shot accuracy (common/model/tasks/zero_shot.h).
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "common/base/status.h"
#include "common/model/tasks/zero_shot.h"

namespace pregate::cli {
namespace {

ChoiceScore ScoreOf(const TokenScores& scores) {
  return {
      std::accumulate(scores.logprobs.begin(), scores.logprobs.end(), 0.0),
      std::all_of(scores.greedy.begin(), scores.greedy.end(), [](uint8_t g) { return g != 0; })};
}

absl::StatusOr<Accuracy> Measure(const OfflineFlags& flags, const std::string& task_path,
                                 int32_t items_max) {
  ASSIGN_OR_RETURN(std::vector<TaskItem> items, ReadTaskFile(task_path));
  if (items_max > 0 && items.size() > static_cast<size_t>(items_max)) items.resize(items_max);
  ASSIGN_OR_RETURN(auto loaded, LoadOffline(flags));
  ASSIGN_OR_RETURN(const auto tokenizer, loaded->checkpoint->LoadTokenizer());
  const size_t context_max = loaded->checkpoint->spec().max_position;
  std::vector<ScoreRequest> requests;
  for (const TaskItem& item : items) {
    for (const TaskChoice& choice : item.choices) {
      ChoiceTokens tokens = TokensOf(*tokenizer, choice, context_max);
      requests.push_back({std::move(tokens.tokens), tokens.first_target});
    }
  }
  ProgressLine progress("choices", flags.as_json);
  ASSIGN_OR_RETURN(const auto scores, loaded->model->Score(requests, [&](int done) {
    progress.Update(done, requests.size());
  }));
  Accuracy accuracy;
  const TokenScores* next = scores.data();
  for (const TaskItem& item : items) {
    std::vector<ChoiceScore> choices;
    for (size_t i = 0; i < item.choices.size(); ++i, ++next) choices.push_back(ScoreOf(*next));
    Judge(item, choices, &accuracy);
  }
  return accuracy;
}

}  // namespace

int EvalTask(int argc, const char* const* argv) {
  OfflineFlags flags;
  std::string task;
  int32_t items_max = 0;
  OptionSet options("pregate eval task", "Zero-shot accuracy on a task file (JSON lines).");
  DeclareOfflineFlags(options, &flags);
  DeclareExpertFlag(options, &flags);
  options.String("task", &task, "JSON lines: query/choices/gold, context_options or context")
      .Required();
  options.Int("items-max", &items_max, 0, 1 << 30, "items", "stop after these; 0: all");
  PARSE_OPTIONS_OR_RETURN(options, "eval task", argc, argv);
  const auto result = Measure(flags, task, items_max);
  if (!result.ok()) return Fail("eval task", result.status());
  const double acc = result->acc(), acc_norm = result->acc_norm();
  if (flags.as_json) {
    PrintJson({{"n", result->items}, {"acc", acc}, {"acc_norm", acc_norm}});
  } else {
    std::cout << absl::StrFormat("%d items, acc %.4f, acc_norm %.4f\n", result->items, acc,
                                 acc_norm);
  }
  return kExitOk;
}

}  // namespace pregate::cli
