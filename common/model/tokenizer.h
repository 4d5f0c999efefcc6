// Byte-level BPE, special tokens, incremental detokenisation and the chat template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant"
  std::string content;  // never parsed for special tokens
};

// Immutable after construction; thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int vocab_size() const = 0;
  // Text to ids; no special token is added, and none is recognised in `text`.
  virtual std::vector<TokenId> Encode(std::string_view text) const = 0;
  // The raw bytes of one token (may be a part of a UTF-8 character); empty for special tokens.
  virtual std::string_view TokenBytes(TokenId id) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;
  virtual std::optional<TokenId> SpecialId(std::string_view text) const = 0;
  // "chatml" or ""; an unknown template is named in the error of ApplyChatTemplate.
  virtual absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(
      absl::Span<const ChatMessage> messages, bool add_generation_prompt) const = 0;
  // Ids that end a turn or a text (eos, <|im_end|>).
  virtual std::vector<TokenId> StopTokens() const = 0;

  std::string Decode(absl::Span<const TokenId> ids) const;  // invalid UTF-8 becomes U+FFFD
};

// Turns a stream of tokens into text without ever splitting a UTF-8 character. Not thread-safe.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  // The text that has become complete with this token, possibly empty.
  std::string Add(TokenId id);
  // What is left at the end; incomplete bytes become U+FFFD.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

// tokenizer.json (+ tokenizer_config.json for the chat template) in `dir`.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& dir);

// What GGUF metadata or tokenizer.json hold, already parsed and bounded; the one constructor.
struct BpeTokenizerSpec {
  std::vector<std::string> tokens;                          // by id, in byte-level alphabet
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  std::vector<TokenId> special;                             // control and user-defined tokens
  std::string pre_tokenizer;                                // "smollm", "gpt2", "llama-bpe"
  std::string chat_template;                                // Jinja source, matched by content
  std::optional<TokenId> bos, eos;
  bool add_bos = false;
};
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(BpeTokenizerSpec spec);
// Writes tokenizer.json and tokenizer_config.json that LoadTokenizerJson reads back equal.
absl::Status SaveTokenizerJson(const BpeTokenizerSpec& spec, const std::string& dir);

}  // namespace pregate
