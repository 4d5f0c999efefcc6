// The tokenizers of tokenizer.json and SentencePiece, special tokens, incremental detokenisation and
// the chat template.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/model/tokenizer/added_tokens.h"
#include "common/model/tokenizer/sentencepiece_model.h"

namespace pregate {

struct Conversation;  // of conversation.h

struct ChatMessage {
  std::string role;     // "system", "user", "assistant"
  std::string content;  // never parsed for special tokens
};

// How what a token stands for joins to a text.
enum class TokenForm : uint8_t {
  kBytes,       // bytes of characters that neighbours may complete, special tokens between them
  kSingleByte,  // the same of direct neighbours alone; each stray byte is a U+FFFD of its own
  kText,        // whole characters, or nothing; a character before them that is not complete ends
  kSpacedText,  // the same; the space that it begins with may be none of the text's own
  kByteRun,     // bytes: a run of them is text, or where that is no UTF-8 a U+FFFD for each of them
  kNothing,     // as if the token were not there
};

// What decoding takes off the beginning of a text.
enum class LeadingSpaces : uint8_t {
  kKeep,
  kDropFirst,         // a kSpacedText's space
  kDropOfEach,        // that of each kSpacedText until there is text
  kDropOfText,        // the one that the whole text begins with
  kDropOfFirstToken,  // those that FirstTokenBytes leaves out
};

// Immutable after construction; thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // "byte-level BPE", "BPE", "unigram", "SentencePiece BPE" or "SentencePiece unigram"; for people.
  virtual std::string_view kind() const { return "other"; }
  virtual int vocab_size() const = 0;
  // Text to ids; no special token is added, and none is recognised in `text`: what spells one is
  // encoded like any other text. Added tokens that are not special, SentencePiece's user-defined
  // pieces among them, are recognised, but for those that begin or end turns of a chat. A byte that
  // belongs to no UTF-8 character is read as U+FFFD. Bytes that the vocabulary lacks are left out
  // by byte-level BPE, unless it names an unknown token; a SentencePiece model without byte pieces
  // gives its unknown token for a run of characters that it lacks. REQUIRES: text.size() < 2^30.
  virtual std::vector<TokenId> Encode(std::string_view text) const = 0;
  // The raw bytes of one token (may be a part of a UTF-8 character); empty for special tokens and
  // for ids that no token has, within the vocabulary or outside, which count as special.
  virtual std::string_view TokenBytes(TokenId id) const = 0;
  // The same of the first token of a text, special ones aside.
  virtual std::string_view FirstTokenBytes(TokenId id) const { return TokenBytes(id); }
  virtual bool IsSpecial(TokenId id) const = 0;
  virtual TokenForm Form(TokenId id) const { return TokenForm::kBytes; }
  // Encode may put a space before a text that is not its own (SentencePiece's dummy prefix).
  virtual LeadingSpaces leading_spaces() const { return LeadingSpaces::kKeep; }
  // The special or added token of this text.
  virtual std::optional<TokenId> SpecialId(std::string_view text) const = 0;
  // The model's own template; text in a message never becomes a special token. InvalidArgument for
  // no messages, an unknown role or what the template refuses, Unimplemented for a template that
  // asks for more than is supported, naming that, FailedPrecondition for a model without one.
  virtual absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(
      absl::Span<const ChatMessage> messages, bool add_generation_prompt) const;
  // The same for messages with tools, parts and further members; roles are the template's business.
  virtual absl::StatusOr<std::vector<TokenId>> ApplyConversation(const Conversation&) const {
    return absl::UnimplementedError("this tokenizer has no chat template");
  }

  // The text that ApplyConversation makes ids of; special tokens are written as they are spelled.
  virtual absl::StatusOr<std::string> LayOutConversation(const Conversation&) const {
    return absl::UnimplementedError("this tokenizer has no chat template");
  }

  // For chat templates: the tokens that their own text becomes, ...
  virtual const AddedTokens& special_tokens() const;
  // ... and Encode of what stands between two of them, or before the first.
  virtual std::vector<TokenId> EncodeInChat(std::string_view text, bool behind_special) const {
    return Encode(text);
  }
  // Whether text of a conversation may never become it: special tokens but the unknown one, and
  // those that begin or end turns.
  virtual bool IsControl(TokenId id) const { return IsSpecial(id); }
  // Ids that end a turn or a text: the tokenizer's own, then those that were added.
  std::vector<TokenId> StopTokens() const;
  // Those that the model's other files name (config.json, generation_config.json). Not thread-safe:
  // before the tokenizer is shared.
  void AddStopTokens(absl::Span<const TokenId> ids);
  // The token that a plain text prompt must begin with, for models that ask for one.
  virtual std::optional<TokenId> PromptBos() const = 0;

  // The whole text of `ids`; invalid UTF-8 becomes U+FFFD, as Form says.
  std::string Decode(absl::Span<const TokenId> ids) const;
  // Encode with PromptBos in front.
  std::vector<TokenId> EncodePrompt(std::string_view text) const;

 protected:
  // What the tokenizer's files say (eos, <|im_end|>).
  virtual std::vector<TokenId> OwnStopTokens() const = 0;

 private:
  std::vector<TokenId> added_stops_;
};

// Turns a stream of tokens into text without ever splitting a UTF-8 character. Not thread-safe.
class IncrementalDecoder {
 public:
  // `starts_text`: the first token begins a text, and the space that Encode may have put there
  // goes. Otherwise the tokens go on with a prompt, and that space is the one between prompt and
  // answer.
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool starts_text = false)
      : tokenizer_(&tokenizer),
        leading_spaces_(starts_text ? tokenizer.leading_spaces() : LeadingSpaces::kKeep) {}
  // From now on this special token gives `text` instead of none.
  void Show(TokenId id, std::string text) { shown_.emplace(id, std::move(text)); }
  // The text that has become complete with this token, possibly empty.
  std::string Add(TokenId id);
  // What is left at the end; incomplete bytes become U+FFFD.
  std::string Finish();

 private:
  // The token's bytes without a leading space that is to go.
  std::string_view BytesOf(TokenId id, TokenForm form);
  // What is left of a character or a run of bytes.
  std::string TakePending();
  // The same text without the space that goes off a whole text.
  std::string WithoutFirstSpace(std::string text);

  const Tokenizer* tokenizer_;
  LeadingSpaces leading_spaces_;  // of what comes next
  TokenForm pending_form_ = TokenForm::kBytes;
  std::string pending_;  // of a character that is not complete
  std::optional<std::pair<TokenId, std::string>> shown_;
};

// What chat templates know beside a conversation.
struct ChatVariables {
  std::map<std::string, std::string> more_templates;  // by name, beside the default one
  // Further special tokens, as text, by the names of their variables: {"pad_token": "<pad>"}.
  std::map<std::string, std::string> tokens;

  bool operator==(const ChatVariables&) const = default;
};

// What GGUF metadata or tokenizer.json hold, already parsed: a pipeline of normalizer, pre-tokenizer,
// model and decoder. Models are BPE or, where there are scores, unigram ones.
struct PipelineTokenizerSpec {
  // By id; empty where the model's own vocabulary has none. Byte-level models spell them in their
  // alphabet; one that is spelled in other characters stands for its bytes as they are, and no text
  // becomes it.
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
  std::vector<double> scores;                               // by id, of a unigram model
  std::vector<AddedToken> added;  // special ones among them; most have their text in `tokens` too
  // A name or an alias of GGUF's tokenizer.ggml.pre (published_regexes.cc has them all), or what
  // tokenizer.json says, as JSON ("null": nothing).
  std::string pre_tokenizer;
  std::string normalizer;  // what tokenizer.json says, as JSON; empty: none
  std::string decoder;     // the same; empty: ByteLevel
  // What has no token becomes the tokens "<0x00>" to "<0xFF>" of its bytes, where they are there.
  bool byte_fallback = false;
  bool ignore_merges = false;      // a word that is a token as a whole is not taken apart
  std::optional<TokenId> unknown;  // for what the vocabulary lacks; nothing: left out
  bool fuse_unknown = false;       // one for a run of them
  std::string chat_template;       // Jinja source
  ChatVariables chat_variables;
  std::optional<TokenId> bos, eos;
  bool add_bos = false;  // a plain text prompt begins with bos

  bool operator==(const PipelineTokenizerSpec&) const = default;
};
// Checks all of the spec; errors name the token, merge or field at fault.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakePipelineTokenizer(PipelineTokenizerSpec spec);

// What tokenizer.model or GGUF metadata hold. Text becomes user-defined pieces as in the
// SentencePiece library, but never one that begins or ends turns of a chat (<|im_end|>).
struct SentencePieceTokenizerSpec {
  SentencePieceModel model;
  std::string chat_template;  // Jinja source
  ChatVariables chat_variables;
  // Special tokens with `lstrip` or `rstrip`, which matters in chat alone.
  std::vector<AddedToken> stripping;
  // A text behind a special token begins with the dummy prefix too, as in transformers' "legacy".
  bool prefix_behind_specials = true;
  std::optional<TokenId> bos, eos;
  bool add_bos = false;  // a plain text prompt begins with bos

  bool operator==(const SentencePieceTokenizerSpec&) const = default;
};
// Checks all of the spec; errors name the piece or field at fault.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(
    SentencePieceTokenizerSpec spec);

// The tokenizer of a Hugging Face directory: tokenizer.model where it is there, else
// tokenizer.json; NotFound without either.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& dir);

// tokenizer.json (+ tokenizer_config.json, chat_template.jinja) in `dir`; NotFound without one.
absl::StatusOr<PipelineTokenizerSpec> LoadPipelineSpec(const std::string& dir);
// Added tokens by id, with the ids that readers of tokenizer.json give them beside a vocabulary.
std::vector<AddedToken> PlaceAddedTokens(const std::vector<std::string>& tokens,
                                         std::vector<AddedToken> listed);
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& dir);
// Writes tokenizer.json and tokenizer_config.json that HF tokenizers and transformers load, and
// that LoadPipelineSpec reads back equal (a pre-tokenizer's alias as its name).
absl::Status SaveTokenizerJson(const PipelineTokenizerSpec& spec, const std::string& dir);

// tokenizer.model (+ tokenizer_config.json, added_tokens.json, chat_template.jinja) in `dir`;
// NotFound without one. Tokens added to the model become user-defined pieces, special ones control
// pieces. A prompt begins with bos, where there is one, unless tokenizer_config.json says no.
absl::StatusOr<SentencePieceTokenizerSpec> LoadSentencePieceSpec(const std::string& dir);
// Writes tokenizer.model and tokenizer_config.json that the SentencePiece library and transformers
// load, and that LoadSentencePieceSpec reads back equal.
absl::Status SaveSentencePieceModel(const SentencePieceTokenizerSpec& spec, const std::string& dir);

}  // namespace pregate
