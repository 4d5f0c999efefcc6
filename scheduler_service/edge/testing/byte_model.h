// A served model whose tokens are bytes, for tests of the edge: ids 0..255 are bytes, 256 ends a
// turn, 257 begins one.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scheduler_service/edge/served_model.h"

namespace pregate::testing {

inline constexpr TokenId kEndOfTurn = 256, kBeginOfTurn = 257;

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int b = 0; b < 256; ++b) bytes_.push_back(std::string(1, static_cast<char>(b)));
  }
  int vocab_size() const override { return 258; }
  std::vector<TokenId> Encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string_view TokenBytes(TokenId id) const override {
    return id < 256 ? std::string_view(bytes_[id]) : std::string_view();
  }
  bool IsSpecial(TokenId id) const override { return id >= 256; }
  std::optional<TokenId> SpecialId(std::string_view) const override { return std::nullopt; }
  absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(
      absl::Span<const ChatMessage> messages, bool add_generation_prompt) const override {
    std::vector<TokenId> ids;
    for (const ChatMessage& message : messages) {
      ids.push_back(kBeginOfTurn);
      for (const TokenId id : Encode(message.content)) ids.push_back(id);
      ids.push_back(kEndOfTurn);
    }
    if (add_generation_prompt) ids.push_back(kBeginOfTurn);
    return ids;
  }
  std::vector<TokenId> OwnStopTokens() const override { return {kEndOfTurn}; }
  std::optional<TokenId> PromptBos() const override { return std::nullopt; }

 private:
  std::vector<std::string> bytes_;
};

inline ServedModel MakeByteModel(int num_experts = 3) {
  ServedModel model{.name = "bytes", .digest = "digest-1"};
  model.spec.vocab_size = 258;
  model.spec.max_position = 128;
  model.spec.num_layers = 2;
  model.spec.num_experts = num_experts;
  model.tokenizer = std::make_unique<ByteTokenizer>();
  return model;
}

}  // namespace pregate::testing
