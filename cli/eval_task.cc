// `pregate eval task`: zero-shot accuracy. acc: the choice with the largest sum of
// log-probabilities is the gold one; acc_norm: the same after dividing each sum by the
// continuation's bytes. An item with one choice is right when every token of its continuation is
// the argmax (then both figures are that).
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_format.h"
#include "cli/command.h"
#include "cli/offline.h"
#include "cli/progress.h"
#include "cli/task_file.h"
#include "common/base/status.h"

namespace pregate::cli {
namespace {

struct Accuracy {
  int n = 0, right = 0, right_norm = 0;
};

// The continuation's tokens are those that the whole has beyond the context's, at least one: both
// may meet in the last. A context that is too long loses its beginning.
ScoreRequest ToRequest(const Tokenizer& tokenizer, const TaskChoice& choice, size_t context_max) {
  ScoreRequest request;
  request.tokens = tokenizer.Encode(choice.context + choice.continuation);
  size_t first = tokenizer.Encode(choice.context).size();
  if (request.tokens.size() > context_max) {
    const size_t cut = request.tokens.size() - context_max;
    request.tokens.erase(request.tokens.begin(), request.tokens.begin() + cut);
    first = first > cut ? first - cut : 0;
  }
  const size_t last = request.tokens.empty() ? 0 : request.tokens.size() - 1;
  request.first_target = static_cast<int32_t>(std::max<size_t>(1, std::min(first, last)));
  return request;
}

double Sum(const TokenScores& scores) {
  return std::accumulate(scores.logprobs.begin(), scores.logprobs.end(), 0.0);
}

void Judge(const TaskItem& item, const TokenScores* scores, Accuracy* accuracy) {
  ++accuracy->n;
  if (item.choices.size() == 1) {
    const auto& greedy = scores[0].greedy;
    const bool right = std::all_of(greedy.begin(), greedy.end(), [](uint8_t g) { return g != 0; });
    accuracy->right += right;
    accuracy->right_norm += right;
    return;
  }
  int best = 0, best_norm = 0;
  const auto norm = [&](int i) { return Sum(scores[i]) / item.choices[i].continuation.size(); };
  for (int i = 1; i < static_cast<int>(item.choices.size()); ++i) {
    if (Sum(scores[i]) > Sum(scores[best])) best = i;
    if (norm(i) > norm(best_norm)) best_norm = i;
  }
  accuracy->right += best == item.gold;
  accuracy->right_norm += best_norm == item.gold;
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
      requests.push_back(ToRequest(*tokenizer, choice, context_max));
    }
  }
  ProgressLine progress("choices", flags.as_json);
  ASSIGN_OR_RETURN(const auto scores, loaded->model->Score(requests, [&](int done) {
    progress.Update(done, requests.size());
  }));
  Accuracy accuracy;
  const TokenScores* next = scores.data();
  for (const TaskItem& item : items) {
    Judge(item, next, &accuracy);
    next += item.choices.size();
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
  const double acc = static_cast<double>(result->right) / result->n;
  const double acc_norm = static_cast<double>(result->right_norm) / result->n;
  if (flags.as_json) {
    PrintJson({{"n", result->n}, {"acc", acc}, {"acc_norm", acc_norm}});
  } else {
    std::cout << absl::StrFormat("%d items, acc %.4f, acc_norm %.4f\n", result->n, acc, acc_norm);
  }
  return kExitOk;
}

}  // namespace pregate::cli
