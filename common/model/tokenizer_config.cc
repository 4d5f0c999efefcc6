#include "common/model/tokenizer_config.h"

#include <charconv>

#include "common/base/status.h"
#include "common/model/json.h"
#include "common/model/limits.h"
#include "common/model/mapped_file.h"

namespace pregate {
namespace {

using nlohmann::json;

// A token of tokenizer_config.json: its text, or an object that holds it as "content".
absl::StatusOr<std::optional<std::string>> ReadTokenText(const JsonObject& config,
                                                         const char* key) {
  if (!config.Has(key)) return std::nullopt;
  std::string text;
  if (config.json()[key].is_object()) {
    ASSIGN_OR_RETURN(const JsonObject token, config.Object(key));
    ASSIGN_OR_RETURN(text, token.String("content"));
  } else {
    ASSIGN_OR_RETURN(text, config.String(key));
  }
  return std::optional(std::move(text));
}

absl::Status ReadConfigFile(const std::string& path, TokenizerConfig* out) {
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject config, JsonObject::From(parsed, path));
  ASSIGN_OR_RETURN(out->bos, ReadTokenText(config, "bos_token"));
  ASSIGN_OR_RETURN(out->eos, ReadTokenText(config, "eos_token"));
  if (config.Has("add_bos_token")) {
    ASSIGN_OR_RETURN(out->add_bos, config.Bool("add_bos_token"));
  }
  ASSIGN_OR_RETURN(out->chat_template, config.String("chat_template", ""));
  return absl::OkStatus();
}

absl::Status AddToken(const std::string& where, int64_t id, const std::string& text,
                      std::map<TokenId, std::string>* tokens) {
  const auto [it, added] = tokens->emplace(static_cast<TokenId>(id), text);
  if (added || it->second == text) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": id ", id, " belongs to two tokens"));
}

// {"TEXT": id}
absl::Status ReadAddedTokensFile(const std::string& path, std::map<TokenId, std::string>* tokens) {
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject list, JsonObject::From(parsed, path));
  for (const auto& [token, unused] : parsed.items()) {
    ASSIGN_OR_RETURN(const int64_t id, list.Int(token, 0, kVocabSizeMax - 1));
    RETURN_IF_ERROR(AddToken(path, id, token, tokens));
  }
  return absl::OkStatus();
}

// {"added_tokens_decoder": {"ID": {"content": "TEXT"}}}
absl::Status ReadAddedTokensDecoder(const std::string& path,
                                    std::map<TokenId, std::string>* tokens) {
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject config, JsonObject::From(parsed, path));
  if (!config.Has("added_tokens_decoder")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonObject decoder, config.Object("added_tokens_decoder"));
  for (const auto& [key, unused] : decoder.json().items()) {
    int64_t id = -1;
    const auto end = std::from_chars(key.data(), key.data() + key.size(), id).ptr;
    if (end != key.data() + key.size() || id < 0 || id >= kVocabSizeMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(decoder.where(), ": \"", key.substr(0, 64), "\" is no token id"));
    }
    ASSIGN_OR_RETURN(const JsonObject token, decoder.Object(key));
    ASSIGN_OR_RETURN(const std::string content, token.String("content"));
    RETURN_IF_ERROR(AddToken(decoder.where(), id, content, tokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& dir) {
  TokenizerConfig config{.where = dir + "/tokenizer_config.json"};
  RETURN_IF_ERROR(ReadConfigFile(config.where, &config));
  auto chat_template = ReadSmallFile(dir + "/chat_template.jinja", kConfigBytesMax);
  if (absl::IsNotFound(chat_template.status())) return config;
  ASSIGN_OR_RETURN(config.chat_template, std::move(chat_template));
  return config;
}

absl::StatusOr<std::optional<TokenId>> FindNamedToken(
    const TokenizerConfig& config, const char* key, const std::optional<std::string>& text,
    absl::FunctionRef<std::optional<TokenId>(const std::string&)> find) {
  if (!text) return std::nullopt;
  if (const auto id = find(*text)) return id;
  return absl::InvalidArgumentError(
      absl::StrCat(config.where, ": ", key, " \"", text->substr(0, 64), "\" is not a token"));
}

absl::StatusOr<std::map<TokenId, std::string>> ReadAddedTokenFiles(const std::string& dir) {
  std::map<TokenId, std::string> tokens;
  RETURN_IF_ERROR(ReadAddedTokensFile(dir + "/added_tokens.json", &tokens));
  RETURN_IF_ERROR(ReadAddedTokensDecoder(dir + "/tokenizer_config.json", &tokens));
  return tokens;
}

}  // namespace pregate
