#include "common/model/tokenizer/json_steps.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

using nlohmann::json;

absl::Status AppendSteps(const json& value, const std::string& where, const char* list_key,
                         std::vector<JsonStep>* steps) {
  ASSIGN_OR_RETURN(JsonObject object, JsonObject::From(value, where));
  ASSIGN_OR_RETURN(std::string type, object.String("type"));
  if (type != "Sequence") {
    steps->push_back({std::move(object), std::move(type)});
    if (steps->size() <= kTokenizerStepsMax) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": more than ", kTokenizerStepsMax, " steps"));
  }
  RETURN_IF_ERROR(CheckKeys(object, {"type", list_key}));
  const auto list = object.json().find(list_key);
  if (list == object.json().end() || !list->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", list_key, " is no list"));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    RETURN_IF_ERROR(
        AppendSteps((*list)[i], absl::StrCat(where, ".", list_key, "[", i, "]"), list_key, steps));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckKeys(const JsonObject& object, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.json().items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return absl::UnimplementedError(
        absl::StrCat(object.where(), ": \"", key.substr(0, 64), "\" is not known"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<JsonStep>> StepsOf(const json& value, const std::string& where,
                                              const char* list_key) {
  std::vector<JsonStep> steps;
  if (!value.is_null()) RETURN_IF_ERROR(AppendSteps(value, where, list_key, &steps));
  return steps;
}

absl::Status UnknownStep(const JsonStep& step) {
  return absl::UnimplementedError(absl::StrCat(step.object.where(), ": type \"",
                                               step.type.substr(0, 64), "\" is not supported"));
}

absl::StatusOr<JsonPattern> PatternOf(const JsonObject& step) {
  ASSIGN_OR_RETURN(const JsonObject pattern, step.Object("pattern"));
  RETURN_IF_ERROR(CheckKeys(pattern, {"String", "Regex"}));
  JsonPattern out;
  if (pattern.Has("Regex")) {
    ASSIGN_OR_RETURN(const std::string regex, pattern.String("Regex"));
    auto compiled = MakeRegexPattern(regex);
    if (!compiled.ok()) return AtPlace(pattern.where(), compiled.status());
    out.pattern = *std::move(compiled);
    return out;
  }
  ASSIGN_OR_RETURN(out.literal, pattern.String("String"));
  if (out.literal.empty() || out.literal.size() > kTokenTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(pattern.where(), ": String of ",
                                                   out.literal.size(), " bytes, expected 1 to ",
                                                   kTokenTextBytesMax));
  }
  out.pattern = MakeLiteral(out.literal);
  return out;
}

absl::Status AtPlace(const std::string& where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

}  // namespace pregate
