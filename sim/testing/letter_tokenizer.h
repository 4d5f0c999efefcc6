// A tokenizer small enough to reason about: token 0 ends a text, 1 and 2 are the halves of "é", the
// others letters and short words.
#pragma once

#include <string>
#include <vector>

#include "common/model/tokenizer/tokenizer.h"

namespace pregate::scheduler {

class LetterTokenizer final : public Tokenizer {
 public:
  explicit LetterTokenizer(int vocab_size) : bytes_(vocab_size) {
    bytes_[1] = "\xC3";
    bytes_[2] = "\xA9";
    for (int id = 3; id < vocab_size; ++id) {
      bytes_[id] = std::string(1, static_cast<char>('a' + id % 7));
      if (id % 5 == 0) bytes_[id] += "bc ";
    }
  }

  int vocab_size() const override { return static_cast<int>(bytes_.size()); }
  std::vector<TokenId> Encode(std::string_view) const override { return {}; }
  std::string_view TokenBytes(TokenId id) const override { return bytes_[id]; }
  bool IsSpecial(TokenId id) const override { return id == 0; }
  std::optional<TokenId> SpecialId(std::string_view) const override { return std::nullopt; }
  absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(absl::Span<const ChatMessage>,
                                                         bool) const override {
    return absl::UnimplementedError("the letter tokenizer has no chat template");
  }
  std::vector<TokenId> OwnStopTokens() const override { return {0}; }
  std::optional<TokenId> PromptBos() const override { return std::nullopt; }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace pregate::scheduler
