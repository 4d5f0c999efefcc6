#include "common/model/gguf_tokenizer.h"

#include "common/base/status.h"
#include "common/model/limits.h"
#include "common/model/tokenizer_pre.h"

namespace pregate {
namespace {

constexpr int64_t kTypeControl = 3, kTypeUserDefined = 4;

absl::Status ReadMerges(const GgufFile& file, BpeTokenizerSpec* spec) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  ASSIGN_OR_RETURN(const auto merges, file.Strings(kKey));
  for (const std::string_view merge : merges) {
    // The first byte may itself be a space in odd vocabularies: the separator is never there.
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", kKey, "[",
                                                     spec->merges.size(), "] is no pair: \"",
                                                     std::string(merge.substr(0, 64)), "\""));
    }
    spec->merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return absl::OkStatus();
}

absl::Status ReadSpecial(const GgufFile& file, BpeTokenizerSpec* spec) {
  constexpr const char* kKey = "tokenizer.ggml.token_type";
  if (!file.Has(kKey)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto types, file.Ints(kKey));
  if (types.size() != spec->tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", kKey, " has ", types.size(),
                                                   " entries for ", spec->tokens.size(),
                                                   " tokens"));
  }
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kTypeControl || types[id] == kTypeUserDefined) {
      spec->special.push_back(static_cast<TokenId>(id));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeTokenizerSpec> GgufTokenizerSpec(const GgufFile& file) {
  if (!file.Has("tokenizer.ggml.model")) {
    return absl::NotFoundError(absl::StrCat(file.path(), ": carries no tokenizer"));
  }
  ASSIGN_OR_RETURN(const std::string model, file.String("tokenizer.ggml.model"));
  if (model != "gpt2") return file.Unsupported("tokenizer.ggml.model");
  BpeTokenizerSpec spec;
  ASSIGN_OR_RETURN(const auto tokens, file.Strings("tokenizer.ggml.tokens"));
  if (tokens.size() > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": ", tokens.size(), " tokens, more than the limit of ", kVocabSizeMax));
  }
  spec.tokens.assign(tokens.begin(), tokens.end());
  RETURN_IF_ERROR(ReadMerges(file, &spec));
  RETURN_IF_ERROR(ReadSpecial(file, &spec));
  ASSIGN_OR_RETURN(spec.pre_tokenizer, file.String("tokenizer.ggml.pre", "default"));
  ASSIGN_OR_RETURN(spec.chat_template, file.String("tokenizer.chat_template", ""));
  const int64_t last = static_cast<int64_t>(tokens.size()) - 1;
  if (file.Has("tokenizer.ggml.bos_token_id")) {
    ASSIGN_OR_RETURN(spec.bos, file.Int("tokenizer.ggml.bos_token_id", 0, last));
  }
  if (file.Has("tokenizer.ggml.eos_token_id")) {
    ASSIGN_OR_RETURN(spec.eos, file.Int("tokenizer.ggml.eos_token_id", 0, last));
  }
  // Files of Llama-3 leave the key out and mean yes; of other models, no.
  const bool is_llama3 = CanonicalPreTokenizer(spec.pre_tokenizer).value_or("") == "llama-bpe";
  ASSIGN_OR_RETURN(spec.add_bos, file.Bool("tokenizer.ggml.add_bos_token", is_llama3 && spec.bos));
  return spec;
}

}  // namespace pregate
