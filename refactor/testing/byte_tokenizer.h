// A tokenizer for tests.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// One token a byte.
class ByteTokenizer final : public Tokenizer {
 public:
  int vocab_size() const override { return 256; }
  std::vector<TokenId> Encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string_view TokenBytes(TokenId) const override { return ""; }
  bool IsSpecial(TokenId) const override { return false; }
  std::optional<TokenId> SpecialId(std::string_view) const override { return std::nullopt; }
  absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(absl::Span<const ChatMessage>,
                                                         bool) const override {
    return absl::UnimplementedError("no template");
  }
  std::vector<TokenId> OwnStopTokens() const override { return {}; }
  std::optional<TokenId> PromptBos() const override { return std::nullopt; }
};

}  // namespace pregate
