#include "common/model/tasks/task_file.h"

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace pregate {
namespace {

using nlohmann::json;

constexpr uint64_t kTaskBytesMax = uint64_t{1} << 30;

absl::StatusOr<std::string> StringField(const json& object, const char* name) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat("field '", name, "' is missing or no string"));
  }
  return it->get<std::string>();
}

absl::StatusOr<std::vector<std::string>> StringsField(const json& object, const char* name) {
  const auto it = object.find(name);
  std::vector<std::string> out;
  if (it != object.end() && it->is_array()) {
    for (const json& entry : *it) {
      if (entry.is_string()) out.push_back(entry.get<std::string>());
    }
  }
  if (out.size() < 2 || out.size() != it->size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("field '", name, "' must be a list of at least two strings"));
  }
  return out;
}

absl::StatusOr<int> GoldField(const json& object, size_t num_choices) {
  const auto it = object.find("gold");
  if (it == object.end() || !it->is_number_integer()) {
    return absl::InvalidArgumentError("field 'gold' is missing or no integer");
  }
  const int64_t gold = it->get<int64_t>();
  if (gold < 0 || gold >= static_cast<int64_t>(num_choices)) {
    return absl::InvalidArgumentError(
        absl::StrCat("field 'gold' is ", gold, ", there are ", num_choices, " choices"));
  }
  return static_cast<int>(gold);
}

std::string Trimmed(const std::string& text) {
  return std::string(absl::StripTrailingAsciiWhitespace(text));
}

absl::StatusOr<TaskItem> MultipleChoice(const json& object) {
  ASSIGN_OR_RETURN(std::string query, StringField(object, "query"));
  ASSIGN_OR_RETURN(std::vector<std::string> choices, StringsField(object, "choices"));
  TaskItem item;
  ASSIGN_OR_RETURN(item.gold, GoldField(object, choices.size()));
  std::string context = Trimmed(query);
  if (absl::StrContains(query, "Question:")) context += "\nAnswer:";
  for (const std::string& choice : choices) item.choices.push_back({context, " " + choice});
  return item;
}

absl::StatusOr<TaskItem> Schema(const json& object) {
  ASSIGN_OR_RETURN(std::vector<std::string> contexts, StringsField(object, "context_options"));
  ASSIGN_OR_RETURN(std::string continuation, StringField(object, "continuation"));
  TaskItem item;
  ASSIGN_OR_RETURN(item.gold, GoldField(object, contexts.size()));
  for (const std::string& c : contexts) item.choices.push_back({Trimmed(c), " " + continuation});
  return item;
}

absl::StatusOr<TaskItem> LastWord(const json& object) {
  ASSIGN_OR_RETURN(std::string context, StringField(object, "context"));
  ASSIGN_OR_RETURN(std::string continuation, StringField(object, "continuation"));
  return TaskItem{{{Trimmed(context), " " + continuation}}, 0};
}

}  // namespace

absl::StatusOr<TaskItem> ParseTaskLine(std::string_view line) {
  ASSIGN_OR_RETURN(const json object, ParseJson(line, "line"));
  if (!object.is_object()) return absl::InvalidArgumentError("not a JSON object");
  if (object.contains("query")) return MultipleChoice(object);
  if (object.contains("context_options")) return Schema(object);
  if (object.contains("context")) return LastWord(object);
  return absl::InvalidArgumentError("needs 'query', 'context_options' or 'context'");
}

absl::StatusOr<std::vector<TaskItem>> ReadTaskFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadInput(path, kTaskBytesMax));
  ASSIGN_OR_RETURN(const std::string_view text, TextOf(bytes, absl::StrCat("'", path, "'")));
  std::vector<TaskItem> items;
  TextLines lines(text);
  while (lines.Next()) {
    if (lines.IsBlank()) continue;
    auto item = ParseTaskLine(lines.line());
    if (!item.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", lines.number(), ": ", item.status().message()));
    }
    items.push_back(*std::move(item));
  }
  if (items.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": no items"));
  return items;
}

}  // namespace pregate
