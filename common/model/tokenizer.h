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
  // Text to ids; no special token is added, and none is recognised in `text`. A byte that belongs
  // to no UTF-8 character is read as U+FFFD; bytes that the vocabulary lacks are left out.
  // REQUIRES: text.size() < 2^30.
  virtual std::vector<TokenId> Encode(std::string_view text) const = 0;
  // The raw bytes of one token (may be a part of a UTF-8 character); empty for special tokens and
  // for ids outside the vocabulary, which count as special.
  virtual std::string_view TokenBytes(TokenId id) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;
  virtual std::optional<TokenId> SpecialId(std::string_view text) const = 0;
  // The model's own template; text in a message never becomes a special token. InvalidArgument for
  // no messages or an unknown role, Unimplemented for a template that is not known, naming it,
  // FailedPrecondition for a model without one.
  virtual absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(
      absl::Span<const ChatMessage> messages, bool add_generation_prompt) const = 0;
  // Ids that end a turn or a text (eos, <|im_end|>).
  virtual std::vector<TokenId> StopTokens() const = 0;
  // The token that a plain text prompt must begin with, for models that ask for one.
  virtual std::optional<TokenId> PromptBos() const = 0;

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

// What GGUF metadata or tokenizer.json hold, already parsed; the one way to a tokenizer.
struct BpeTokenizerSpec {
  std::vector<std::string> tokens;                          // by id, in byte-level alphabet
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  std::vector<TokenId> special;                             // control and user-defined tokens
  // "smollm", "gpt2" ("gpt-2"), "llama-bpe" ("llama3", "llama-v3") or "default" (""): the names of
  // GGUF's tokenizer.ggml.pre, aliases in brackets. "llama-bpe" also means that a word which is a
  // token as a whole is not taken apart.
  std::string pre_tokenizer;
  std::string chat_template;  // Jinja source, matched by content
  std::optional<TokenId> bos, eos;
  bool add_bos = false;  // a plain text prompt begins with bos

  bool operator==(const BpeTokenizerSpec&) const = default;
};
// Checks all of the spec; errors name the token, merge or field at fault.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(BpeTokenizerSpec spec);

// tokenizer.json (+ tokenizer_config.json, chat_template.jinja) in `dir`; NotFound without one.
absl::StatusOr<BpeTokenizerSpec> LoadTokenizerSpec(const std::string& dir);
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& dir);
// Writes tokenizer.json and tokenizer_config.json that HF tokenizers and transformers load, and
// that LoadTokenizerSpec reads back equal (a pre-tokenizer's alias as its name).
absl::Status SaveTokenizerJson(const BpeTokenizerSpec& spec, const std::string& dir);

}  // namespace pregate
