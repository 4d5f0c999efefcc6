#include "common/model/tokenizer/pre_tokenizer.h"

#include <utility>

#include "common/base/status.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/pre_tokenizer_steps.h"
#include "common/model/tokenizer/published_regexes.h"

namespace pregate {
namespace {

using nlohmann::json;

json ByteLevelJson(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json SplitJson(std::string_view regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json JsonOf(const NamedPreTokenizer& named) {
  const bool is_gpt2 = named.regexes.size() == 1 && named.regexes[0] == kGpt2Regex;
  if (is_gpt2 && !named.digits_apart) return ByteLevelJson(true);
  json steps = json::array();
  if (named.digits_apart) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (!is_gpt2) {
    for (const std::string_view regex : named.regexes) steps.push_back(SplitJson(regex));
  }
  steps.push_back(ByteLevelJson(is_gpt2));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// Without what has no influence on tokens, and with what may be left out.
json WithoutOffsets(json value) {
  if (!value.is_object()) return value;
  value.erase("trim_offsets");
  if (value.value("type", json()) == "ByteLevel" && !value.contains("use_regex")) {
    value["use_regex"] = true;
  }
  if (value.contains("pretokenizers") && value["pretokenizers"].is_array()) {
    for (json& step : value["pretokenizers"]) step = WithoutOffsets(std::move(step));
  }
  return value;
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Make(const json& value, const std::string& where) {
  ASSIGN_OR_RETURN(const auto steps, StepsOf(value, where, "pretokenizers"));
  PreTokenizer out;
  for (const JsonStep& step : steps) {
    if (out.byte_level_) {
      return absl::UnimplementedError(
          absl::StrCat(step.object.where(), ": ", step.type, " behind ByteLevel is not supported"));
    }
    ASSIGN_OR_RETURN(auto made, MakePreTokenizerStep(step));
    out.steps_.push_back(std::move(made));
    out.byte_level_ = step.type == "ByteLevel";
  }
  return out;
}

Words PreTokenizer::Split(std::string_view text, bool begins_text) const {
  Words words;
  if (!text.empty()) words.words.push_back({text, begins_text});
  for (const auto& step : steps_) {
    const std::vector<Words::Word> before = std::exchange(words.words, {});
    words.words.reserve(before.size());
    for (const Words::Word& word : before) step->Apply(word, &words);
  }
  return words;
}

absl::StatusOr<json> PreTokenizerFromName(std::string_view name) {
  ASSIGN_OR_RETURN(const NamedPreTokenizer* named, FindNamedPreTokenizer(name));
  return JsonOf(*named);
}

std::string NameOfPreTokenizer(const json& value) {
  const json found = WithoutOffsets(value);
  for (const NamedPreTokenizer& named : NamedPreTokenizers()) {
    if (found == WithoutOffsets(JsonOf(named))) return named.name;
  }
  return "";
}

}  // namespace pregate
