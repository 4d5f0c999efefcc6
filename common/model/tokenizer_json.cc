// Reads tokenizer.json, tokenizer_config.json and chat_template.jinja of a Hugging Face directory.
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/status.h"
#include "common/model/json.h"
#include "common/model/limits.h"
#include "common/model/mapped_file.h"
#include "common/model/tokenizer.h"
#include "common/model/tokenizer_config.h"
#include "common/model/tokenizer_json_pre.h"

namespace pregate {
namespace {

using nlohmann::json;
constexpr size_t kTokenizerBytesMax = size_t{64} << 20;  // of a tokenizer.json
using TokensById = std::map<TokenId, std::string>;

absl::Status Add(const std::string& where, const std::string& text, int64_t id,
                 TokensById* tokens) {
  const auto [it, added] = tokens->emplace(static_cast<TokenId>(id), text);
  if (added || it->second == text) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": id ", id, " belongs to two tokens"));
}

// Options of HF's BPE that byte-level models leave off and this tokenizer does not have.
absl::Status CheckModel(const JsonObject& model) {
  ASSIGN_OR_RETURN(const std::string type, model.String("type", "BPE"));
  if (type != "BPE") {
    return absl::UnimplementedError(
        absl::StrCat(model.where(), ": type \"", type.substr(0, 64), "\" (BPE is supported)"));
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const bool set = model.Has(key) && model.json()[key] != json("");
    if (set) return absl::UnimplementedError(absl::StrCat(model.where(), ": ", key, " is set"));
  }
  ASSIGN_OR_RETURN(const bool byte_fallback, model.Bool("byte_fallback", false));
  if (byte_fallback) {
    return absl::UnimplementedError(
        absl::StrCat(model.where(),
                     ": byte_fallback is set: this is a SentencePiece model; put "
                     "the tokenizer.model that it was made from beside it"));
  }
  return absl::OkStatus();
}

absl::Status ReadVocab(const JsonObject& model, TokensById* tokens) {
  ASSIGN_OR_RETURN(const JsonObject vocab, model.Object("vocab"));
  for (const auto& [text, id] : vocab.json().items()) {
    ASSIGN_OR_RETURN(const int64_t value, vocab.Int(text, 0, kVocabSizeMax - 1));
    RETURN_IF_ERROR(Add(vocab.where(), text, value, tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const json& merge,
                                                              const std::string& where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  if (space == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected \"left right\" or [left, right]"));
  }
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

absl::Status ReadMerges(const JsonObject& model, BpeTokenizerSpec* spec) {
  const auto merges = model.json().find("merges");
  if (merges == model.json().end() || !merges->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(model.where(), ": merges is no list"));
  }
  for (size_t i = 0; i < merges->size(); ++i) {
    ASSIGN_OR_RETURN(auto merge,
                     ReadMerge((*merges)[i], absl::StrCat(model.where(), ": merges[", i, "]")));
    spec->merges.push_back(std::move(merge));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const JsonObject& root, TokensById* tokens, BpeTokenizerSpec* spec) {
  if (!root.Has("added_tokens")) return absl::OkStatus();
  const json& list = root.json()["added_tokens"];
  if (!list.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(root.where(), ": added_tokens is no list"));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = absl::StrCat(root.where(), ": added_tokens[", i, "]");
    ASSIGN_OR_RETURN(const JsonObject token, JsonObject::From(list[i], where));
    ASSIGN_OR_RETURN(const int64_t id, token.Int("id", 0, kVocabSizeMax - 1));
    ASSIGN_OR_RETURN(const std::string text, token.String("content"));
    RETURN_IF_ERROR(Add(where, text, id, tokens));
    spec->special.push_back(static_cast<TokenId>(id));
  }
  std::sort(spec->special.begin(), spec->special.end());
  return absl::OkStatus();
}

absl::Status PlaceTokens(const std::string& where, TokensById tokens, BpeTokenizerSpec* spec) {
  for (auto& [id, text] : tokens) {
    if (static_cast<size_t>(id) != spec->tokens.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": no token has the id ", spec->tokens.size()));
    }
    spec->tokens.push_back(std::move(text));
  }
  return absl::OkStatus();
}

absl::Status ReadConfig(const std::string& dir, BpeTokenizerSpec* spec) {
  ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(dir));
  const auto find = [&](const std::string& text) -> std::optional<TokenId> {
    const auto it = std::find(spec->tokens.begin(), spec->tokens.end(), text);
    if (it == spec->tokens.end()) return std::nullopt;
    return static_cast<TokenId>(it - spec->tokens.begin());
  };
  ASSIGN_OR_RETURN(spec->bos, FindNamedToken(config, "bos_token", config.bos, find));
  ASSIGN_OR_RETURN(spec->eos, FindNamedToken(config, "eos_token", config.eos, find));
  spec->add_bos = config.add_bos.value_or(false);
  spec->chat_template = std::move(config.chat_template);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeTokenizerSpec> LoadTokenizerSpec(const std::string& dir) {
  const std::string path = dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kTokenizerBytesMax));
  ASSIGN_OR_RETURN(const json parsed, ParseJson(text, path));
  ASSIGN_OR_RETURN(const JsonObject root, JsonObject::From(parsed, path));
  ASSIGN_OR_RETURN(const JsonObject model, root.Object("model"));
  RETURN_IF_ERROR(CheckModel(model));
  BpeTokenizerSpec spec;
  TokensById tokens;
  RETURN_IF_ERROR(ReadVocab(model, &tokens));
  RETURN_IF_ERROR(ReadMerges(model, &spec));
  RETURN_IF_ERROR(ReadAddedTokens(root, &tokens, &spec));
  RETURN_IF_ERROR(PlaceTokens(path, std::move(tokens), &spec));
  ASSIGN_OR_RETURN(spec.pre_tokenizer, PreTokenizerFromJson(root, model));
  RETURN_IF_ERROR(ReadConfig(dir, &spec));
  ASSIGN_OR_RETURN(const std::optional<std::string> first, FirstTokenFromJson(root));
  if (first) {
    const auto it = std::find(spec.tokens.begin(), spec.tokens.end(), *first);
    const bool is_bos = spec.bos && it - spec.tokens.begin() == *spec.bos;
    if (!is_bos) {
      return absl::UnimplementedError(absl::StrCat(
          path, ": post_processor puts \"", first->substr(0, 64), "\" first, which is not bos"));
    }
    spec.add_bos = true;
  }
  return spec;
}

}  // namespace pregate
