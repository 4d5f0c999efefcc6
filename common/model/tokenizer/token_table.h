// A checked vocabulary: which ids there are, what they stand for, which are special.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/normalizer.h"
#include "common/model/tokenizer/token_decoder.h"
#include "common/model/tokenizer/word_model.h"

namespace pregate {

// Checks sizes, texts and ids of `spec` and gives its own tokens by text.
absl::StatusOr<TokenIds> IndexTokens(const PipelineTokenizerSpec& spec);

// Immutable; thread-safe.
class TokenTable {
 public:
  // The text of an added token that is `normalized` is its normal form, as in the package.
  // REQUIRES: IndexTokens(spec) is OK.
  TokenTable(const PipelineTokenizerSpec& spec, const Normalizer& normalizer,
             const TokenDecoder& decoder);

  int size() const { return static_cast<int>(entries_.size()); }
  bool Contains(TokenId id) const { return id >= 0 && id < size(); }
  bool IsSpecial(TokenId id) const { return !Contains(id) || entries_[id].special; }
  std::string_view Bytes(TokenId id) const {
    return Contains(id) ? std::string_view(entries_[id].bytes) : std::string_view();
  }
  // The same at the beginning of a text.
  std::string_view FirstBytes(TokenId id) const;
  TokenForm Form(TokenId id) const {
    return IsSpecial(id) ? TokenForm::kNothing : entries_[id].form;
  }

 private:
  struct Entry {
    std::string bytes;  // empty for special tokens and ids without a token
    TokenForm form = TokenForm::kNothing;
    bool special = true;
  };
  void Set(TokenId id, const std::string& text, bool special, const TokenDecoder& decoder);

  std::vector<Entry> entries_;
  absl::flat_hash_map<TokenId, std::string> first_bytes_;  // where they differ
};

}  // namespace pregate
