// The tokenizer of a SentencePieceTokenizerSpec: normalise, cut into pieces. The SentencePiece
// library itself is not linked: Debian's carries a protobuf of its own whose symbols clash with the
// one of gRPC (docs/adr/0001-dependencies.md). The tests compare with it.
#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/model/tokenizer/sentencepiece_normalizer.h"
#include "common/model/tokenizer/sentencepiece_segmenter.h"
#include "common/model/tokenizer/sentencepiece_vocab.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_chat.h"

namespace pregate {
namespace {

using Algorithm = SentencePieceModel::Algorithm;

LeadingSpaces LeadingSpacesOf(const SentencePieceModel& model) {
  if (model.remove_extra_whitespaces) return LeadingSpaces::kDropOfEach;
  return model.add_dummy_prefix ? LeadingSpaces::kDropFirst : LeadingSpaces::kKeep;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceVocabulary vocab, SentencePieceNormalizer normalizer,
                         SentencePieceNormalizer without_prefix, AddedTokens specials,
                         SentencePieceTokenizerSpec spec)
      : vocab_(std::move(vocab)),
        normalizer_(std::move(normalizer)),
        without_prefix_(std::move(without_prefix)),
        specials_(std::move(specials)),
        algorithm_(spec.model.algorithm),
        segmenter_(algorithm_ == Algorithm::kBpe ? MakeBpeSegmenter(&vocab_)
                                                 : MakeUnigramSegmenter(&vocab_)),
        leading_spaces_(LeadingSpacesOf(spec.model)),
        prefix_behind_specials_(spec.prefix_behind_specials),
        chat_templates_(spec.chat_template, WithUnknown(std::move(spec.chat_variables)),
                        TextOf(spec.bos), TextOf(spec.eos)),
        prompt_bos_(spec.add_bos ? spec.bos : std::nullopt),
        eos_(spec.eos) {}

  std::string_view kind() const override {
    return algorithm_ == Algorithm::kBpe ? "SentencePiece BPE" : "SentencePiece unigram";
  }
  int vocab_size() const override { return vocab_.size(); }
  std::string_view TokenBytes(TokenId id) const override { return vocab_.Bytes(id); }
  bool IsSpecial(TokenId id) const override { return vocab_.IsSpecial(id); }
  TokenForm Form(TokenId id) const override {
    if (IsSpecial(id) || id == vocab_.unknown_id()) return TokenForm::kText;
    if (vocab_.type(id) == PieceType::kByte) return TokenForm::kSingleByte;
    return vocab_.text(id).starts_with(kSpacePiece) ? TokenForm::kSpacedText : TokenForm::kText;
  }
  LeadingSpaces leading_spaces() const override { return leading_spaces_; }
  std::optional<TokenId> SpecialId(std::string_view text) const override {
    return vocab_.SpecialId(text);
  }
  std::optional<TokenId> PromptBos() const override { return prompt_bos_; }
  std::vector<TokenId> OwnStopTokens() const override { return FindStopTokens(*this, eos_); }

  std::vector<TokenId> Encode(std::string_view text) const override {
    return EncodeNormalised(normalizer_.Normalise(text));
  }

  // As transformers 5 does: the dummy prefix stands before a whole text alone where the model is not
  // "legacy", and never before a space.
  std::vector<TokenId> EncodeInChat(std::string_view text, bool behind_special) const override {
    const bool has_prefix = (prefix_behind_specials_ || !behind_special) && !text.starts_with(' ');
    return EncodeNormalised((has_prefix ? normalizer_ : without_prefix_).Normalise(text));
  }
  const AddedTokens& special_tokens() const override { return specials_; }
  bool IsControl(TokenId id) const override {
    return IsSpecial(id) || IsTurnMarker(specials_.TextOf(id));
  }

  absl::StatusOr<std::vector<TokenId>> ApplyConversation(const Conversation& chat) const override {
    return chat_templates_.Apply(*this, chat);
  }
  absl::StatusOr<std::string> LayOutConversation(const Conversation& chat) const override {
    ASSIGN_OR_RETURN(const MarkedText text, chat_templates_.Render(chat));
    return text.bytes();
  }

 private:
  ChatVariables WithUnknown(ChatVariables variables) const {
    variables.tokens.emplace("unk_token", vocab_.text(vocab_.unknown_id()));
    return variables;
  }
  std::string TextOf(std::optional<TokenId> id) const { return id ? vocab_.text(*id) : ""; }

  std::vector<TokenId> EncodeNormalised(const std::string& text) const {
    std::vector<TokenId> ids;
    segmenter_->Append(text, &ids);
    if (vocab_.byte_fallback()) return ids;
    const auto both_unknown = [&](TokenId a, TokenId b) {
      return a == vocab_.unknown_id() && b == vocab_.unknown_id();
    };
    ids.erase(std::unique(ids.begin(), ids.end(), both_unknown), ids.end());
    return ids;
  }

  const SentencePieceVocabulary vocab_;
  const SentencePieceNormalizer normalizer_, without_prefix_;
  const AddedTokens specials_;
  const Algorithm algorithm_;
  const std::unique_ptr<SentencePieceSegmenter> segmenter_;  // borrows vocab_
  const LeadingSpaces leading_spaces_;
  const bool prefix_behind_specials_;
  const ChatTemplates chat_templates_;
  const std::optional<TokenId> prompt_bos_, eos_;
};

absl::Status CheckSpecId(const char* field, std::optional<TokenId> id, size_t vocab_size) {
  if (!id || (*id >= 0 && static_cast<size_t>(*id) < vocab_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", *id, " is outside the vocabulary of ", vocab_size));
}

// What a chat template's own text becomes: control pieces, the unknown piece, and user-defined ones
// that begin or end turns.
absl::StatusOr<AddedTokens> SpecialPieces(const SentencePieceTokenizerSpec& spec) {
  std::vector<AddedToken> tokens;
  for (size_t id = 0; id < spec.model.pieces.size(); ++id) {
    const SentencePiece& piece = spec.model.pieces[id];
    const bool is_special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    const bool is_marker = piece.type == PieceType::kUserDefined && IsTurnMarker(piece.text);
    if (!is_special && !is_marker) continue;
    AddedToken token{.id = static_cast<TokenId>(id), .text = piece.text, .special = true};
    for (const AddedToken& stripping : spec.stripping) {
      if (stripping.id == token.id) token = stripping;
    }
    tokens.push_back(std::move(token));
  }
  return AddedTokens::Make(std::move(tokens));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(
    SentencePieceTokenizerSpec spec) {
  ASSIGN_OR_RETURN(SentencePieceVocabulary vocab, SentencePieceVocabulary::Build(spec.model));
  ASSIGN_OR_RETURN(SentencePieceNormalizer normalizer, SentencePieceNormalizer::Make(spec.model));
  RETURN_IF_ERROR(CheckSpecId("bos", spec.bos, spec.model.pieces.size()));
  RETURN_IF_ERROR(CheckSpecId("eos", spec.eos, spec.model.pieces.size()));
  if (spec.add_bos && !spec.bos) {
    return absl::InvalidArgumentError("add_bos is set, but there is no bos token");
  }
  SentencePieceModel bare = spec.model;
  bare.add_dummy_prefix = false;
  ASSIGN_OR_RETURN(SentencePieceNormalizer without_prefix, SentencePieceNormalizer::Make(bare));
  ASSIGN_OR_RETURN(AddedTokens specials, SpecialPieces(spec));
  return std::make_unique<SentencePieceTokenizer>(std::move(vocab), std::move(normalizer),
                                                  std::move(without_prefix), std::move(specials),
                                                  std::move(spec));
}

}  // namespace pregate
