#include "common/model/tokenizer/tokenizer_json_pre.h"

#include <initializer_list>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer_pre.h"

namespace pregate {
namespace {

using nlohmann::json;

// The expressions as published tokenizer.json files have them: they are compared as text.
constexpr const char* kPublishedGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kPublishedLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kNames[] = {"smollm", "gpt2", "llama-bpe", "default"};

json Split(const char* regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json Sequence(std::vector<json> steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// Removes what has no influence on tokens, and fills in what may be left out.
json Normalise(json value) {
  if (!value.is_object()) return value;
  value.erase("trim_offsets");
  if (value.value("type", json()) == "ByteLevel" && !value.contains("use_regex")) {
    value["use_regex"] = true;
  }
  if (value.contains("pretokenizers") && value["pretokenizers"].is_array()) {
    for (json& step : value["pretokenizers"]) step = Normalise(std::move(step));
  }
  return value;
}

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

json PreTokenizerToJson(std::string_view name) {
  if (name == "smollm") {
    return Sequence({json{{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true)});
  }
  if (name == "gpt2") return ByteLevel(true);
  if (name == "llama-bpe") return Sequence({Split(kPublishedLlama3), ByteLevel(false)});
  return Sequence({Split(R"([\p{P}\$\+<=>\^~\|]+)"), Split(kPublishedGpt2), Split(R"(\p{N}+)"),
                   Split("[0-9][0-9][0-9]"), ByteLevel(false)});
}

absl::StatusOr<std::string> PreTokenizerFromJson(const JsonObject& root) {
  if (root.Has("normalizer")) {
    return absl::UnimplementedError(absl::StrCat(root.where(), ": normalizer ",
                                                 JsonExcerpt(root.json()["normalizer"]),
                                                 " is not supported"));
  }
  const json found = Normalise(root.json().value("pre_tokenizer", json()));
  for (const char* name : kNames) {
    if (found == Normalise(PreTokenizerToJson(name))) return std::string(name);
  }
  return absl::UnimplementedError(absl::StrCat(root.where(), ": pre_tokenizer ", JsonExcerpt(found),
                                               " is not supported (those of SmolLM, GPT-2 and "
                                               "Llama-3 are)"));
}

absl::Status CheckByteLevelDecoder(const JsonObject& root) {
  const json decoder = root.json().value("decoder", json());
  const json* step = &decoder;
  if (decoder.is_object() && decoder.value("type", json()) == "Sequence" &&
      decoder.contains("decoders") && decoder["decoders"].is_array() &&
      decoder["decoders"].size() == 1) {
    step = &decoder["decoders"][0];
  }
  if (step->is_object() && step->value("type", json()) == "ByteLevel") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(root.where(), ": decoder ", JsonExcerpt(decoder),
                                               " is not supported (ByteLevel is)"));
}

absl::StatusOr<std::optional<FirstToken>> FirstTokenFromJson(const JsonObject& root) {
  if (!root.Has("post_processor")) return std::nullopt;
  const json& processor = root.json()["post_processor"];
  std::vector<json> steps = {processor};
  if (processor.is_object() && processor.value("type", json()) == "Sequence") {
    steps = processor.value("processors", std::vector<json>());
  }
  std::optional<FirstToken> first;
  for (const json& step : steps) {
    const json type = step.is_object() ? step.value("type", json()) : json();
    if (type == "ByteLevel") continue;  // offsets only
    if (type != "TemplateProcessing" || first) {
      return absl::UnimplementedError(
          absl::StrCat(root.where(), ": post_processor ", JsonExcerpt(step), " is not supported"));
    }
    ASSIGN_OR_RETURN(first, FirstOfTemplate(step, root.where()));
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
