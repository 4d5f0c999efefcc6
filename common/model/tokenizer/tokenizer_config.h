// The files beside a tokenizer in a Hugging Face directory: tokenizer_config.json,
// chat_template.jinja, additional_chat_templates, chat_template.json and added_tokens.json.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {

struct TokenizerConfig {
  std::string where;                    // the file, for errors
  std::optional<std::string> bos, eos;  // as text
  std::optional<bool> add_bos;          // nothing: the file does not say
  std::string chat_template;            // the default one; empty: there is none
  ChatVariables chat_variables;         // further templates, and further tokens
  bool legacy = true;                   // SentencePiece; a file that does not say so means no
};

// A file that is not there sets nothing.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& dir);

// Writes the same into a tokenizer_config.json. InvalidArgument for a template that is not UTF-8.
absl::Status PutChatTemplates(const std::string& chat_template, const ChatVariables& variables,
                              nlohmann::json* config);

// The id of the token that `key` (bos_token, eos_token) names: InvalidArgument where `find` knows
// none, nothing where the file names none.
absl::StatusOr<std::optional<TokenId>> FindNamedToken(
    const TokenizerConfig& config, const char* key, const std::optional<std::string>& text,
    absl::FunctionRef<std::optional<TokenId>(const std::string&)> find);

struct NamedToken {
  std::string text;
  bool special = false;  // a text neither holds it nor becomes it
  bool lstrip = false, rstrip = false;
};

// added_tokens.json and tokenizer_config.json's added_tokens_decoder, by id. The latter alone says
// of a token that it is special.
absl::StatusOr<std::map<TokenId, NamedToken>> ReadAddedTokenFiles(const std::string& dir);

}  // namespace pregate
