#include "common/model/tokenizer/tokenizer_config.h"

#include <charconv>
#include <filesystem>
#include <system_error>
#include <vector>

#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/base/utf8.h"

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

absl::Status BadTemplate(const JsonObject& config, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(config.where(), ": chat_template", what));
}

json Member(const json& object, const char* key) {
  return object.is_object() ? object.value(key, json()) : json();
}

// {"NAME": "TEMPLATE"} of templates that are a list of {"name", "template"}, or that already.
absl::StatusOr<std::map<std::string, std::string>> NamedTemplates(const JsonObject& config) {
  const json& value = config.json()["chat_template"];
  std::map<std::string, std::string> named;
  for (const auto& [key, item] : value.items()) {
    const json name = value.is_object() ? json(key) : Member(item, "name");
    const json text = value.is_object() ? item : Member(item, "template");
    if (!name.is_string() || !text.is_string()) {
      return BadTemplate(config, absl::StrCat("[", key.substr(0, 64), "] is no name and template"));
    }
    named[name.get<std::string>()] = text.get<std::string>();
  }
  return named;
}

absl::Status CheckTemplateCount(const std::string& where, size_t count) {
  if (count <= kTemplatesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": ", count, " chat templates, at most ", kTemplatesMax));
}

// A template, or several by name, of which "default" is the one for chat. Null says nothing.
absl::Status ReadChatTemplate(const JsonObject& config, TokenizerConfig* out) {
  if (!config.Has("chat_template")) return absl::OkStatus();
  const json& value = config.json()["chat_template"];
  if (value.is_string()) {
    out->chat_template = value.get<std::string>();
    return absl::OkStatus();
  }
  if (!value.is_array() && !value.is_object()) {
    return BadTemplate(config, " is neither a template nor a list of named ones");
  }
  RETURN_IF_ERROR(CheckTemplateCount(config.where(), value.size()));
  ASSIGN_OR_RETURN(auto named, NamedTemplates(config));
  const auto it = named.find("default");
  if (it != named.end()) {
    out->chat_template = it->second;
    named.erase(it);
  }
  out->chat_variables.more_templates = std::move(named);
  return absl::OkStatus();
}

// Templates call these by the names of the keys.
absl::Status ReadFurtherTokens(const JsonObject& config, TokenizerConfig* out) {
  for (const char* key : {"unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    ASSIGN_OR_RETURN(const auto text, ReadTokenText(config, key));
    if (text) out->chat_variables.tokens[key] = *text;
  }
  return absl::OkStatus();
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
  ASSIGN_OR_RETURN(out->legacy, config.Bool("legacy", false));
  RETURN_IF_ERROR(ReadFurtherTokens(config, out));
  return ReadChatTemplate(config, out);
}

absl::StatusOr<std::string> ReadTemplateFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string source, ReadSmallFile(path, kTemplateSourceBytesMax));
  ASSIGN_OR_RETURN(const std::string_view text, TextOf(source, path));
  return std::string(text);
}

// additional_chat_templates/NAME.jinja
absl::Status ReadFurtherTemplates(const std::string& dir, TokenizerConfig* out) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".jinja") files.push_back(entry.path());
    RETURN_IF_ERROR(CheckTemplateCount(dir, files.size()));
  }
  for (const auto& file : files) {
    ASSIGN_OR_RETURN(out->chat_variables.more_templates[file.stem().string()],
                     ReadTemplateFile(file.string()));
  }
  return absl::OkStatus();
}

// chat_template.jinja comes before what tokenizer_config.json says, and that before
// chat_template.json, which only some processors write.
absl::Status ReadTemplateFiles(const std::string& dir, TokenizerConfig* out) {
  auto source = ReadTemplateFile(dir + "/chat_template.jinja");
  if (!absl::IsNotFound(source.status())) {
    RETURN_IF_ERROR(source.status());
    out->chat_template = *std::move(source);
    out->chat_variables.more_templates.clear();
  }
  RETURN_IF_ERROR(ReadFurtherTemplates(dir + "/additional_chat_templates", out));
  if (!out->chat_template.empty()) return absl::OkStatus();
  const std::string json_path = dir + "/chat_template.json";
  const auto file = ReadSmallFile(json_path, kConfigBytesMax);
  if (absl::IsNotFound(file.status())) return absl::OkStatus();
  RETURN_IF_ERROR(file.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*file, json_path));
  ASSIGN_OR_RETURN(const JsonObject config, JsonObject::From(parsed, json_path));
  return ReadChatTemplate(config, out);
}

// The end token of special_tokens_map.json, which older directories alone have.
absl::StatusOr<std::optional<std::string>> ReadMappedEos(const std::string& path) {
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject map, JsonObject::From(parsed, path));
  return ReadTokenText(map, "eos_token");
}

absl::Status AddToken(const std::string& where, int64_t id, const NamedToken& token,
                      std::map<TokenId, NamedToken>* tokens) {
  const auto [it, added] = tokens->emplace(static_cast<TokenId>(id), token);
  it->second.special |= token.special;
  it->second.lstrip |= token.lstrip;
  it->second.rstrip |= token.rstrip;
  if (added || it->second.text == token.text) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": id ", id, " belongs to two tokens"));
}

// {"TEXT": id}
absl::Status ReadAddedTokensFile(const std::string& path, std::map<TokenId, NamedToken>* tokens) {
  const auto text = ReadSmallFile(path, kConfigBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const json parsed, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject list, JsonObject::From(parsed, path));
  for (const auto& [token, unused] : parsed.items()) {
    ASSIGN_OR_RETURN(const int64_t id, list.Int(token, 0, kVocabSizeMax - 1));
    RETURN_IF_ERROR(AddToken(path, id, {.text = token}, tokens));
  }
  return absl::OkStatus();
}

// {"added_tokens_decoder": {"ID": {"content": "TEXT", "special": true}}}
absl::Status ReadAddedTokensDecoder(const std::string& path,
                                    std::map<TokenId, NamedToken>* tokens) {
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
    ASSIGN_OR_RETURN(const JsonObject object, decoder.Object(key));
    NamedToken token;
    ASSIGN_OR_RETURN(token.text, object.String("content"));
    ASSIGN_OR_RETURN(token.special, object.Bool("special", false));
    ASSIGN_OR_RETURN(token.lstrip, object.Bool("lstrip", false));
    ASSIGN_OR_RETURN(token.rstrip, object.Bool("rstrip", false));
    RETURN_IF_ERROR(AddToken(decoder.where(), id, token, tokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& dir) {
  TokenizerConfig config{.where = dir + "/tokenizer_config.json"};
  RETURN_IF_ERROR(ReadConfigFile(config.where, &config));
  RETURN_IF_ERROR(ReadTemplateFiles(dir, &config));
  if (!config.eos) {
    ASSIGN_OR_RETURN(config.eos, ReadMappedEos(dir + "/special_tokens_map.json"));
  }
  return config;
}

absl::Status PutChatTemplates(const std::string& chat_template, const ChatVariables& variables,
                              json* config) {
  for (const auto& [name, text] : variables.tokens) (*config)[name] = text;
  json named = json::array();
  if (!chat_template.empty()) named.push_back({{"name", "default"}, {"template", chat_template}});
  for (const auto& [name, source] : variables.more_templates) {
    named.push_back({{"name", name}, {"template", source}});
  }
  for (const json& item : named) {
    if (!IsUtf8(item["template"].get_ref<const std::string&>())) {
      return absl::InvalidArgumentError("chat_template is not UTF-8");
    }
  }
  if (!variables.more_templates.empty()) {
    (*config)["chat_template"] = std::move(named);
  } else if (!chat_template.empty()) {
    (*config)["chat_template"] = chat_template;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TokenId>> FindNamedToken(
    const TokenizerConfig& config, const char* key, const std::optional<std::string>& text,
    absl::FunctionRef<std::optional<TokenId>(const std::string&)> find) {
  if (!text) return std::nullopt;
  if (const auto id = find(*text)) return id;
  return absl::InvalidArgumentError(
      absl::StrCat(config.where, ": ", key, " \"", text->substr(0, 64), "\" is not a token"));
}

absl::StatusOr<std::map<TokenId, NamedToken>> ReadAddedTokenFiles(const std::string& dir) {
  std::map<TokenId, NamedToken> tokens;
  RETURN_IF_ERROR(ReadAddedTokensFile(dir + "/added_tokens.json", &tokens));
  RETURN_IF_ERROR(ReadAddedTokensDecoder(dir + "/tokenizer_config.json", &tokens));
  return tokens;
}

}  // namespace pregate
