// The tokenizer of a PipelineTokenizerSpec:
//
//   text -> added tokens -> Normalizer -> added tokens that are normalized -> PreTokenizer
//        -> words -> WordModel -> ids -> TokenTable -> text
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/normalizer.h"
#include "common/model/tokenizer/pre_tokenizer.h"
#include "common/model/tokenizer/token_table.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"
#include "common/model/tokenizer/tokenizer_chat.h"
#include "common/model/tokenizer/tokenizer_parts.h"
#include "common/model/tokenizer/word_model.h"

namespace pregate {
namespace {

// Cuts a word before each run of U+2581.
void AppendStandalone(std::string_view word, std::vector<std::string_view>* words) {
  while (!word.empty()) {
    size_t pos = 0;
    while (word.substr(pos).starts_with(kSpacePiece)) pos += kSpacePiece.size();
    const size_t end = std::min(word.find(kSpacePiece, pos), word.size());
    words->push_back(word.substr(0, end));
    word.remove_prefix(end);
  }
}

class PipelineTokenizer final : public Tokenizer {
 public:
  PipelineTokenizer(TokenizerParts parts, TokenTable table, AddedTokens added,
                    std::unique_ptr<WordModel> model, std::string_view kind,
                    PipelineTokenizerSpec spec)
      : parts_(std::move(parts)),
        table_(std::move(table)),
        added_(std::move(added)),
        model_(std::move(model)),
        kind_(kind),
        // BPE of bytes takes them as they are.
        spells_bytes_(parts_.pre_tokenizer.byte_level() && kind_ != kByteLevelKind),
        chat_templates_(spec.chat_template, spec.chat_variables, TextOf(spec.bos),
                        TextOf(spec.eos)),
        prompt_bos_(spec.add_bos ? spec.bos : std::nullopt),
        unknown_(spec.unknown),
        eos_(spec.eos) {}

  static constexpr std::string_view kByteLevelKind = "byte-level BPE";

  std::string_view kind() const override { return kind_; }
  int vocab_size() const override { return table_.size(); }
  std::string_view TokenBytes(TokenId id) const override { return table_.Bytes(id); }
  std::string_view FirstTokenBytes(TokenId id) const override { return table_.FirstBytes(id); }
  bool IsSpecial(TokenId id) const override { return table_.IsSpecial(id); }
  TokenForm Form(TokenId id) const override { return table_.Form(id); }
  LeadingSpaces leading_spaces() const override { return parts_.decoder.leading_spaces(); }
  std::optional<TokenId> SpecialId(std::string_view text) const override {
    return added_.Find(text);
  }
  std::optional<TokenId> PromptBos() const override { return prompt_bos_; }
  std::vector<TokenId> OwnStopTokens() const override { return FindStopTokens(*this, eos_); }

  std::vector<TokenId> Encode(std::string_view text) const override {
    return EncodePart(text, /*begins_text=*/true);
  }
  std::vector<TokenId> EncodeInChat(std::string_view text, bool behind_special) const override {
    return EncodePart(text, /*begins_text=*/!behind_special);
  }
  const AddedTokens& special_tokens() const override { return added_; }
  bool IsControl(TokenId id) const override {
    return id != unknown_ && (IsSpecial(id) || IsTurnMarker(added_.TextOf(id)));
  }

  absl::StatusOr<std::vector<TokenId>> ApplyConversation(const Conversation& chat) const override {
    return chat_templates_.Apply(*this, chat);
  }
  absl::StatusOr<std::string> LayOutConversation(const Conversation& chat) const override {
    ASSIGN_OR_RETURN(const MarkedText text, chat_templates_.Render(chat));
    return text.bytes();
  }

 private:
  // Of bos or eos: as an added token, or as the vocabulary has it.
  std::string TextOf(std::optional<TokenId> id) const {
    if (!id) return "";
    const std::string_view added = added_.TextOf(*id);
    return std::string(added.empty() ? table_.Bytes(*id) : added);
  }

  std::vector<TokenId> EncodePart(std::string_view text, bool begins_text) const {
    std::vector<TokenId> ids;
    if (IsUtf8(text)) {
      AppendWellFormed(text, begins_text, &ids);
    } else {
      AppendWellFormed(ReplaceStrayBytes(text), begins_text, &ids);
    }
    return ids;
  }

  void AppendWellFormed(std::string_view text, bool begins_text, std::vector<TokenId>* ids) const {
    for (const AddedTokens::Stretch& stretch : added_.SplitPlain(text)) {
      if (stretch.id) {
        ids->push_back(*stretch.id);
      } else {
        AppendStretch(stretch.text, begins_text && stretch.text.data() == text.data(), ids);
      }
    }
  }

  void AppendStretch(std::string_view text, bool begins_text, std::vector<TokenId>* ids) const {
    if (parts_.normalizer.empty()) return AppendNormal(text, begins_text, ids);
    AppendNormal(parts_.normalizer.Normalise(text), begins_text, ids);
  }

  void AppendNormal(std::string_view text, bool begins_text, std::vector<TokenId>* ids) const {
    for (const AddedTokens::Stretch& stretch : added_.SplitNormalized(text)) {
      if (stretch.id) {
        ids->push_back(*stretch.id);
      } else {
        AppendText(stretch.text, begins_text && stretch.text.data() == text.data(), ids);
      }
    }
  }

  // A word that has come before is copied from where its tokens lie in `ids`.
  void AppendText(std::string_view text, bool begins_text, std::vector<TokenId>* ids) const {
    struct Range {
      size_t begin, end;
    };
    const Words words = parts_.pre_tokenizer.Split(text, begins_text);
    absl::flat_hash_map<std::string_view, Range> seen;
    const auto append = [&](std::string_view word) {
      const size_t begin = ids->size();
      const auto [it, is_new] = seen.try_emplace(word);
      if (is_new) {
        AppendWord(word, ids);
        it->second = {begin, ids->size()};
      } else {
        for (size_t i = it->second.begin; i < it->second.end; ++i) ids->push_back((*ids)[i]);
      }
    };
    std::vector<std::string_view> parts;
    for (const Words::Word& word : words.words) {
      parts.clear();
      if (model_->words_stand_alone()) {
        AppendStandalone(word.text, &parts);
      } else {
        parts.push_back(word.text);
      }
      for (const std::string_view part : parts) append(part);
    }
  }

  void AppendWord(std::string_view word, std::vector<TokenId>* ids) const {
    if (spells_bytes_) {
      model_->Append(AlphabetFromBytes(word), ids);
    } else {
      model_->Append(word, ids);
    }
  }

  const TokenizerParts parts_;
  const TokenTable table_;
  const AddedTokens added_;
  const std::unique_ptr<WordModel> model_;
  const std::string_view kind_;
  const bool spells_bytes_;
  const ChatTemplates chat_templates_;
  const std::optional<TokenId> prompt_bos_, unknown_, eos_;
};

absl::StatusOr<std::unique_ptr<WordModel>> MakeModel(const PipelineTokenizerSpec& spec,
                                                     const TokenIds& ids, std::string_view kind) {
  if (kind == PipelineTokenizer::kByteLevelKind) return MakeByteBpe(spec, ids);
  return spec.scores.empty() ? MakeCharacterBpe(spec, ids) : MakeUnigram(spec);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakePipelineTokenizer(PipelineTokenizerSpec spec) {
  ASSIGN_OR_RETURN(TokenizerParts parts, TokenizerParts::Make(spec, ""));
  ASSIGN_OR_RETURN(AddedTokens added, AddedTokens::Make(spec.added, &parts.normalizer));
  ASSIGN_OR_RETURN(const TokenIds ids, IndexTokens(spec));
  const bool bytes = parts.pre_tokenizer.byte_level() && spec.scores.empty() && !spec.byte_fallback;
  const std::string_view kind = bytes                 ? PipelineTokenizer::kByteLevelKind
                                : spec.scores.empty() ? "BPE"
                                                      : "unigram";
  ASSIGN_OR_RETURN(std::unique_ptr<WordModel> model, MakeModel(spec, ids, kind));
  TokenTable table(spec, parts.normalizer, parts.decoder);
  return std::make_unique<PipelineTokenizer>(std::move(parts), std::move(table), std::move(added),
                                             std::move(model), kind, std::move(spec));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& dir) {
  ASSIGN_OR_RETURN(PipelineTokenizerSpec spec, LoadPipelineSpec(dir));
  return MakePipelineTokenizer(std::move(spec));
}

}  // namespace pregate
