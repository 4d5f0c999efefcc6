#include "common/model/tokenizer/post_processor.h"

#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/tokenizer/json_steps.h"

namespace pregate {
namespace {

using nlohmann::json;

std::string JsonExcerpt(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 160);
}

// One entry of TemplateProcessing's "single": the id of a special token, or "" for the text itself.
std::optional<std::string> TemplateItem(const json& item) {
  if (!item.is_object() || item.size() != 1) return std::nullopt;
  if (item.contains("Sequence")) return "";
  const json body = item.value("SpecialToken", json());
  if (!body.is_object() || !body.contains("id") || !body["id"].is_string()) return std::nullopt;
  return body["id"].get<std::string>();
}

// The one id that a template gives a special token.
std::optional<TokenId> IdInTemplate(const json& step, const std::string& token) {
  const json tokens = step.value("special_tokens", json());
  const json entry = tokens.is_object() ? tokens.value(token, json()) : json();
  const json ids = entry.is_object() ? entry.value("ids", json()) : json();
  if (!ids.is_array() || ids.size() != 1 || !ids[0].is_number_integer()) return std::nullopt;
  const int64_t id = ids[0].get<int64_t>();
  return id >= 0 && id < kVocabSizeMax ? std::optional(static_cast<TokenId>(id)) : std::nullopt;
}

// REQUIRES: step.type is TemplateProcessing.
absl::StatusOr<std::optional<FirstToken>> FirstOfTemplate(const json& step,
                                                          const std::string& where) {
  const json single = step.value("single", json());
  if (single.is_array() && !single.empty() && single.size() <= 2) {
    const auto first = TemplateItem(single.front()), last = TemplateItem(single.back());
    if (single.size() == 1 && first == "") return std::nullopt;
    if (single.size() == 2 && first && !first->empty() && last == "") {
      const std::optional<TokenId> id = IdInTemplate(step, *first);
      if (id) return FirstToken{*first, *id};
    }
  }
  return absl::UnimplementedError(
      absl::StrCat(where, ": post_processor template ", JsonExcerpt(single),
                   " is not supported (one special token before the text is)"));
}

}  // namespace

// ByteLevel says where tokens stand in the text, which nobody asks here.
absl::StatusOr<std::optional<FirstToken>> FirstTokenFromJson(const JsonObject& root) {
  if (!root.Has("post_processor")) return std::nullopt;
  ASSIGN_OR_RETURN(const auto steps, StepsOf(root.json()["post_processor"],
                                             root.where() + ": post_processor", "processors"));
  std::optional<FirstToken> first;
  for (const JsonStep& step : steps) {
    if (step.type == "ByteLevel") continue;
    if (step.type != "TemplateProcessing" || first) return UnknownStep(step);
    ASSIGN_OR_RETURN(first, FirstOfTemplate(step.object.json(), root.where()));
  }
  return first;
}

json FirstTokenToJson(const std::string& first, int id) {
  const auto token = [&](int type_id) {
    return json{{"SpecialToken", {{"id", first}, {"type_id", type_id}}}};
  };
  const auto text = [](const char* name, int type_id) {
    return json{{"Sequence", {{"id", name}, {"type_id", type_id}}}};
  };
  const json special = {{"id", first}, {"ids", {id}}, {"tokens", {first}}};
  return {{"type", "TemplateProcessing"},
          {"single", {token(0), text("A", 0)}},
          {"pair", {token(0), text("A", 0), token(1), text("B", 1)}},
          {"special_tokens", {{first, special}}}};
}

}  // namespace pregate
