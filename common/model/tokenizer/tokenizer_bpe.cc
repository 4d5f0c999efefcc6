// The tokenizer of a BpeTokenizerSpec: pre-tokenize, merge, look up.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_chat.h"
#include "common/model/tokenizer/tokenizer_pre.h"
#include "common/model/tokenizer/tokenizer_vocab.h"

namespace pregate {
namespace {

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(BpeVocabulary vocab, const std::string& pre_tokenizer, BpeTokenizerSpec spec)
      : vocab_(std::move(vocab)),
        pre_tokenizer_(PreTokenizer::Make(pre_tokenizer)),
        ignore_merges_(spec.ignore_merges),
        chat_templates_(spec.chat_template, spec.chat_variables, TextOf(spec.bos),
                        TextOf(spec.eos)),
        prompt_bos_(spec.add_bos ? spec.bos : std::nullopt),
        unknown_(spec.unknown),
        eos_(spec.eos) {}

  std::string_view kind() const override { return "byte-level BPE"; }
  int vocab_size() const override { return vocab_.size(); }
  std::string_view TokenBytes(TokenId id) const override { return vocab_.Bytes(id); }
  bool IsSpecial(TokenId id) const override { return vocab_.IsSpecial(id); }
  std::optional<TokenId> SpecialId(std::string_view text) const override {
    return vocab_.added().Find(text);
  }
  std::optional<TokenId> PromptBos() const override { return prompt_bos_; }

  std::vector<TokenId> Encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    if (IsUtf8(text)) {
      AppendWellFormed(text, &ids);
    } else {
      AppendWellFormed(ReplaceStrayBytes(text), &ids);
    }
    return ids;
  }

  std::vector<TokenId> OwnStopTokens() const override { return FindStopTokens(*this, eos_); }

  absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(
      absl::Span<const ChatMessage> messages, bool add_generation_prompt) const override {
    RETURN_IF_ERROR(CheckRoles(messages));
    return ApplyConversation(MakeConversation(messages, add_generation_prompt, absl::Now()));
  }
  absl::StatusOr<std::vector<TokenId>> ApplyConversation(const Conversation& chat) const override {
    return chat_templates_.Apply(*this, chat);
  }
  const AddedTokens& special_tokens() const override { return vocab_.added(); }
  bool IsControl(TokenId id) const override {
    return id != unknown_ && (IsSpecial(id) || IsTurnMarker(vocab_.added().TextOf(id)));
  }

 private:
  // Of bos or eos: as an added token, or as the vocabulary has it.
  std::string TextOf(std::optional<TokenId> id) const {
    if (!id) return "";
    const std::string_view added = vocab_.added().TextOf(*id);
    return std::string(added.empty() ? vocab_.Bytes(*id) : added);
  }

  void AppendWellFormed(std::string_view text, std::vector<TokenId>* ids) const {
    for (const AddedTokens::Stretch& stretch : vocab_.added().Split(text)) {
      if (stretch.id) {
        ids->push_back(*stretch.id);
      } else {
        AppendWords(stretch.text, ids);
      }
    }
  }

  // A word that has come before is copied from where its tokens lie in `ids`.
  void AppendWords(std::string_view text, std::vector<TokenId>* ids) const {
    struct Range {
      size_t begin, end;
    };
    absl::flat_hash_map<std::string_view, Range> seen;
    for (const std::string_view word : pre_tokenizer_->Split(text)) {
      const size_t begin = ids->size();
      const auto [it, is_new] = seen.try_emplace(word);
      if (is_new) {
        AppendWord(word, ids);
        it->second = {begin, ids->size()};
      } else {
        for (size_t i = it->second.begin; i < it->second.end; ++i) ids->push_back((*ids)[i]);
      }
    }
  }

  void AppendWord(std::string_view word, std::vector<TokenId>* ids) const {
    const auto whole = ignore_merges_ ? vocab_.NormalId(word) : std::nullopt;
    if (whole) {
      ids->push_back(*whole);
    } else {
      vocab_.AppendMerged(word, ids);
    }
  }

  const BpeVocabulary vocab_;
  const std::unique_ptr<PreTokenizer> pre_tokenizer_;
  const bool ignore_merges_;
  const ChatTemplates chat_templates_;
  const std::optional<TokenId> prompt_bos_, unknown_, eos_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(BpeTokenizerSpec spec) {
  ASSIGN_OR_RETURN(const std::string pre_tokenizer, CanonicalPreTokenizer(spec.pre_tokenizer));
  ASSIGN_OR_RETURN(BpeVocabulary vocab, BpeVocabulary::Build(spec));
  return std::make_unique<BpeTokenizer>(std::move(vocab), pre_tokenizer, std::move(spec));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& dir) {
  ASSIGN_OR_RETURN(BpeTokenizerSpec spec, LoadTokenizerSpec(dir));
  return MakeBpeTokenizer(std::move(spec));
}

}  // namespace pregate
