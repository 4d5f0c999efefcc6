// The tokens "<0x00>" to "<0xFF>", which stand for single bytes of characters that are no tokens.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "common/model/tokenizer/word_model.h"

namespace pregate {

class ByteTokens {
 public:
  explicit ByteTokens(const TokenIds& ids);
  // Appends the tokens of the bytes of `text`; nothing, and false, where one of them is missing.
  bool Append(std::string_view text, std::vector<TokenId>* ids) const;

 private:
  static constexpr TokenId kMissing = -1;
  std::array<TokenId, 256> ids_;
};

}  // namespace pregate
