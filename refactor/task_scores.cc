#include "refactor/task_scores.h"

#include <algorithm>
#include <filesystem>

#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "refactor/expert_model.h"
#include "refactor/router_train.h"

namespace pregate {
namespace {

constexpr const char* kTasksRecord = "tasks.json";
constexpr int kCardTexts = 64;  // at a time
constexpr int kWidthStep = 16;  // of windows: texts of a task are as long as its longest

// The texts of one task, each as a window that is filled up behind it: what comes later changes nothing.
struct Texts {
  Corpus windows;
  std::vector<int32_t> first_target, end;  // of each
};

Texts MakeTexts(const Task& task, const Tokenizer& tokenizer, int tokens_max) {
  std::vector<ChoiceTokens> all;
  size_t longest = 2;
  for (const TaskItem& item : task.items) {
    for (const TaskChoice& choice : item.choices) {
      all.push_back(TokensOf(tokenizer, choice, static_cast<size_t>(tokens_max)));
      longest = std::max(longest, all.back().tokens.size());
    }
  }
  Texts texts;
  texts.windows.domains = {task.name};
  texts.windows.window_tokens =
      std::min(tokens_max, static_cast<int>((longest + kWidthStep - 1) / kWidthStep * kWidthStep));
  for (ChoiceTokens& choice : all) {
    texts.first_target.push_back(choice.first_target);
    texts.end.push_back(static_cast<int32_t>(choice.tokens.size()));
    choice.tokens.resize(texts.windows.window_tokens, 0);
    texts.windows.tokens.insert(texts.windows.tokens.end(), choice.tokens.begin(),
                                choice.tokens.end());
    texts.windows.window_domain.push_back(0);
  }
  return texts;
}

// Of windows [first, first + num): only the rows that say a target are multiplied by the head.
void ScoreWindows(const CausalModel& model, const Texts& texts, int first, int num,
                  const at::Tensor& routes, at::Device device, std::vector<ChoiceScore>& scores) {
  const int64_t window = texts.windows.window_tokens;
  std::vector<int64_t> rows, targets;
  for (int i = 0; i < num; ++i) {
    const auto tokens = texts.windows.Window(first + i);
    for (int32_t t = texts.first_target[first + i]; t < texts.end[first + i]; ++t) {
      rows.push_back(i * window + t - 1);
      targets.push_back(tokens[t]);
    }
  }
  const at::Tensor hidden =
      model.Hidden(WindowIds(texts.windows, first, num, device), routes, nullptr, nullptr);
  const at::Tensor of_rows =
      hidden.reshape({num * window, -1}).index_select(0, at::tensor(rows).to(device));
  const at::Tensor log_p = model.ComputeLogits(of_rows).to(at::kFloat).log_softmax(-1);
  const at::Tensor next = at::tensor(targets).to(device).unsqueeze(1);
  const at::Tensor logprobs = log_p.gather(1, next).squeeze(1).to(at::kCPU).contiguous();
  const at::Tensor greedy =
      log_p.argmax(-1).eq(next.squeeze(1)).to(at::kCPU, at::kByte).contiguous();
  const auto* const logprob = logprobs.data_ptr<float>();
  const auto* const is_greedy = greedy.data_ptr<uint8_t>();
  size_t row = 0;
  for (int i = 0; i < num; ++i) {
    ChoiceScore& score = scores.emplace_back(ChoiceScore{.logprob = 0, .greedy = true});
    for (int32_t t = texts.first_target[first + i]; t < texts.end[first + i]; ++t, ++row) {
      score.logprob += logprob[row];
      score.greedy = score.greedy && is_greedy[row] != 0;
    }
  }
}

Accuracy JudgeAll(const Task& task, absl::Span<const ChoiceScore> scores) {
  Accuracy accuracy;
  size_t next = 0;
  for (const TaskItem& item : task.items) {
    Judge(item, scores.subspan(next, item.choices.size()), &accuracy);
    next += item.choices.size();
  }
  return accuracy;
}

absl::StatusOr<TaskScores> ScoreTask(const Checkpoint& dense, const Artifact& artifact,
                                     const std::vector<float>& embedding, const Task& task,
                                     const Texts& texts, const std::string& device,
                                     const std::function<void(double)>& progress) {
  const at::NoGradGuard no_grad;
  ASSIGN_OR_RETURN(const TorchPlace place, PlaceOf(device));
  const int window = texts.windows.window_tokens, all = texts.windows.num_windows();
  ASSIGN_OR_RETURN(const CausalModel parent,
                   CausalModel::Load(dense, window, place.device, place.compute, place.compute));
  ASSIGN_OR_RETURN(const CausalModel experts,
                   LoadExperts(dense, artifact, window, place, place.compute));
  const std::vector<int32_t> routed =
      RouteTokens(RouterOf(artifact), embedding, dense.spec().hidden, texts.windows, device);
  const at::Tensor routes = at::tensor(routed, at::kLong).view({all, window}).to(place.device);
  std::vector<ChoiceScore> of_parent, of_experts;
  const int chunk = place.device.is_cpu() ? 1 : kCardTexts;
  for (int first = 0; first < all; first += chunk) {
    const int num = std::min(chunk, all - first);
    ScoreWindows(parent, texts, first, num, {}, place.device, of_parent);
    ScoreWindows(experts, texts, first, num, routes.narrow(0, first, num), place.device,
                 of_experts);
    progress(static_cast<double>(first + num) / all);
  }
  return TaskScores{task.name, JudgeAll(task, of_parent), JudgeAll(task, of_experts)};
}

// Of what ToJson has written.
absl::Status CheckScores(const nlohmann::json& json, const std::string& where) {
  ASSIGN_OR_RETURN(const JsonObject scores, JsonObject::From(json, where));
  RETURN_IF_ERROR(scores.String("task").status());
  RETURN_IF_ERROR(scores.Int("items", 1, INT32_MAX).status());
  RETURN_IF_ERROR(scores.Number("chance").status());
  for (const char* model : {"parent", "routed"}) {
    ASSIGN_OR_RETURN(const JsonObject accuracy, scores.Object(model));
    RETURN_IF_ERROR(accuracy.Number("acc").status());
    RETURN_IF_ERROR(accuracy.Number("acc_norm").status());
  }
  if (json.contains("margin_kept")) RETURN_IF_ERROR(scores.Number("margin_kept").status());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Task>> ReadTasks(const std::string& dir, int items_max) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".jsonl") paths.push_back(entry.path().string());
  }
  if (paths.empty()) {
    return absl::NotFoundError(
        absl::StrCat("--tasks: ", dir, error ? ": " + error.message() : " has no .jsonl file"));
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Task> tasks;
  for (const std::string& path : paths) {
    Task& task = tasks.emplace_back();
    task.name = std::filesystem::path(path).stem().string();
    ASSIGN_OR_RETURN(task.items, ReadTaskFile(path));
    if (items_max > 0 && task.items.size() > static_cast<size_t>(items_max)) {
      task.items.resize(items_max);
    }
  }
  return tasks;
}

std::string DigestOf(absl::Span<const Task> tasks) {
  Sha256 sha;
  for (const Task& task : tasks) {
    sha.Update(absl::StrCat(task.name, "\n", task.items.size(), "\n"));
    for (const TaskItem& item : task.items) {
      sha.Update(absl::StrCat(item.gold, " ", item.choices.size(), "\n"));
      for (const TaskChoice& choice : item.choices) {
        sha.Update(absl::StrCat(choice.context.size(), "\n", choice.context, choice.continuation));
      }
    }
  }
  return sha.HexDigest();
}

nlohmann::json ToJson(const TaskScores& s) {
  const auto json = [](const Accuracy& accuracy) -> nlohmann::json {
    return {{"acc", accuracy.acc()}, {"acc_norm", accuracy.acc_norm()}};
  };
  nlohmann::json out = {{"task", s.task},
                        {"items", s.parent.items},
                        {"chance", s.parent.chance()},
                        {"parent", json(s.parent)},
                        {"routed", json(s.routed)}};
  const double margin = s.parent.acc() - s.parent.chance();
  if (margin > 0) out["margin_kept"] = (s.routed.acc() - s.parent.chance()) / margin;
  return out;
}

absl::StatusOr<std::optional<std::vector<nlohmann::json>>> ScoreTasks(
    const Checkpoint& dense, const Artifact& artifact, const Tokenizer& tokenizer,
    absl::Span<const Task> tasks, int tokens_max, const std::string& device,
    const nlohmann::json& inputs, WorkFolder& work, const StageHooks& hooks) {
  std::vector<nlohmann::json> done;
  ASSIGN_OR_RETURN(const auto record, work.Read(kTasksRecord, inputs));
  if (record && record->contains("tasks")) {
    for (const nlohmann::json& task : (*record)["tasks"]) {
      RETURN_IF_ERROR(CheckScores(task, work.File(kTasksRecord)));
      done.push_back(task);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<float> embedding, EmbeddingOf(dense));
  while (done.size() < tasks.size()) {
    if (hooks.stop()) return std::nullopt;
    const Task& task = tasks[done.size()];
    const auto progress = [&](double part) {
      hooks.progress((static_cast<double>(done.size()) + part) / static_cast<double>(tasks.size()),
                     task.name);
    };
    ASSIGN_OR_RETURN(const TaskScores scores,
                     ScoreTask(dense, artifact, embedding, task,
                               MakeTexts(task, tokenizer, tokens_max), device, progress));
    done.push_back(ToJson(scores));
    RETURN_IF_ERROR(work.Write(kTasksRecord, {{"inputs", inputs}, {"tasks", done}}));
  }
  return done;
}

}  // namespace pregate
