#include "common/model/tokenizer/sentencepiece_vocab.h"

#include <algorithm>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/model/tokenizer/added_tokens.h"

namespace pregate {
namespace {

std::optional<TokenId> FindPiece(const absl::flat_hash_map<std::string, TokenId>& ids,
                                 std::string_view text) {
  const auto it = ids.find(absl::string_view(text.data(), text.size()));
  return it == ids.end() ? std::nullopt : std::optional(it->second);
}

std::string TextOfPiece(const std::string& piece) {
  return absl::StrReplaceAll(piece,
                             {{absl::string_view(kSpacePiece.data(), kSpacePiece.size()), " "}});
}

// Whether a U+2581 stands behind another character.
bool ReachesOverWords(std::string_view piece) {
  while (piece.starts_with(kSpacePiece)) piece.remove_prefix(kSpacePiece.size());
  return piece.find(kSpacePiece) != std::string_view::npos;
}

// A turn marker is no part of what text may become.
bool IsOfTexts(const SentencePiece& piece) {
  if (piece.type == PieceType::kUserDefined) return !IsTurnMarker(piece.text);
  return piece.type == PieceType::kNormal || piece.type == PieceType::kUnused;
}

}  // namespace

PrefixIndex UserDefinedPieces(const SentencePieceModel& model) {
  PrefixIndex index;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.type == PieceType::kUserDefined && IsOfTexts(piece)) index.Add(piece.text, id);
  }
  index.Build();
  return index;
}

absl::StatusOr<SentencePieceVocabulary> SentencePieceVocabulary::Build(
    const SentencePieceModel& model) {
  RETURN_IF_ERROR(CheckSentencePieceModel(model));
  SentencePieceVocabulary vocab;
  vocab.pieces_ = model.pieces;
  vocab.byte_fallback_ = model.byte_fallback;
  vocab.bytes_.resize(vocab.pieces_.size());
  vocab.user_defined_ = UserDefinedPieces(model);
  for (TokenId id = 0; id < vocab.size(); ++id) vocab.Add(id, model);
  std::sort(vocab.text_ids_.begin(), vocab.text_ids_.end(),
            [&](TokenId a, TokenId b) { return vocab.text(a) < vocab.text(b); });
  return vocab;
}

void SentencePieceVocabulary::Add(TokenId id, const SentencePieceModel& model) {
  const SentencePiece& piece = pieces_[id];
  if (IsOfTexts(piece)) AddOfTexts(id);
  switch (piece.type) {
    case PieceType::kNormal:
    case PieceType::kUnused:
      bytes_[id] = TextOfPiece(piece.text);
      return;
    case PieceType::kByte: {
      const uint8_t byte = *ByteOfPiece(piece.text);
      bytes_[id] = std::string(1, static_cast<char>(byte));
      byte_ids_[byte] = id;
      return;
    }
    case PieceType::kUserDefined:
      bytes_[id] = TextOfPiece(piece.text);
      break;
    case PieceType::kUnknown:
      bytes_[id] = model.unknown_text;
      unknown_id_ = id;
      break;
    case PieceType::kControl:
      break;
  }
  special_ids_.emplace(piece.text, id);
}

void SentencePieceVocabulary::AddOfTexts(TokenId id) {
  ids_by_text_.emplace(text(id), id);
  text_ids_.push_back(id);
  text_bytes_max_ = std::max(text_bytes_max_, text(id).size());
  if (ReachesOverWords(text(id)) || is_unused(id)) words_stand_alone_ = false;
}

std::optional<TokenId> SentencePieceVocabulary::SpecialId(std::string_view text) const {
  return FindPiece(special_ids_, text);
}

std::optional<TokenId> SentencePieceVocabulary::TextId(std::string_view text) const {
  return text.size() <= text_bytes_max_ ? FindPiece(ids_by_text_, text) : std::nullopt;
}

std::optional<TokenId> SentencePieceVocabulary::UserDefinedAt(std::string_view text) const {
  if (user_defined_.empty()) return std::nullopt;
  const auto found = user_defined_.LongestAt(text);
  return found ? std::optional(static_cast<TokenId>(found->value)) : std::nullopt;
}

void SentencePieceVocabulary::AppendUnknown(std::string_view character,
                                            std::vector<TokenId>* ids) const {
  if (!byte_fallback_) {
    ids->push_back(unknown_id_);
    return;
  }
  for (const char byte : character) ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
}

}  // namespace pregate
