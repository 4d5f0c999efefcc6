// What the artifact's model, routed, and its parent answer to zero-shot tasks (part of the evaluate stage).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/model/tasks/zero_shot.h"
#include "common/model/tokenizer/tokenizer.h"
#include "refactor/artifact.h"
#include "refactor/calibrate.h"

namespace pregate {

struct Task {
  std::string name;  // of the file, without its ending
  std::vector<TaskItem> items;
};

// Of each "NAME.jsonl" in `dir`, in the order of names, the first `items_max` items; 0: all. NotFound
// where there is none; task_file.h's errors.
absl::StatusOr<std::vector<Task>> ReadTasks(const std::string& dir, int items_max);
std::string DigestOf(absl::Span<const Task> tasks);

struct TaskScores {
  std::string task;
  Accuracy parent, routed;
};
// With `margin_kept`: what the routed model has above chance over what the parent has; acc, as
// `pregate eval task` says it.
nlohmann::json ToJson(const TaskScores& scores);

// Goes on behind the last task of the record "tasks.json"; nothing: the hooks said stop. Each text is
// cut to its last `tokens_max` tokens. On `device`, by LibTorch's threads on a CPU. The record's errors and
// those of the device.
absl::StatusOr<std::optional<std::vector<nlohmann::json>>> ScoreTasks(
    const Checkpoint& dense, const Artifact& artifact, const Tokenizer& tokenizer,
    absl::Span<const Task> tasks, int tokens_max, const std::string& device,
    const nlohmann::json& inputs, WorkFolder& work, const StageHooks& hooks);

}  // namespace pregate
