// A checked SentencePiece vocabulary: pieces by text, tokens as text.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/model/tokenizer/prefix_index.h"
#include "common/model/tokenizer/sentencepiece_model.h"

namespace pregate {

// The ids of user-defined pieces by text, without those that begin or end turns of a chat
// (IsTurnMarker): no text becomes one of these.
PrefixIndex UserDefinedPieces(const SentencePieceModel& model);

// Immutable after Build; thread-safe.
class SentencePieceVocabulary {
 public:
  // Checks the model.
  static absl::StatusOr<SentencePieceVocabulary> Build(const SentencePieceModel& model);

  int size() const { return static_cast<int>(pieces_.size()); }
  bool Contains(TokenId id) const { return id >= 0 && id < size(); }
  // Control pieces, and ids that no piece has.
  bool IsSpecial(TokenId id) const { return !Contains(id) || type(id) == PieceType::kControl; }
  // What the token stands for in a text: U+2581 as a space; empty for special tokens.
  std::string_view Bytes(TokenId id) const {
    return Contains(id) ? std::string_view(bytes_[id]) : std::string_view();
  }
  // Control, user-defined and unknown pieces.
  std::optional<TokenId> SpecialId(std::string_view text) const;

  // A piece that text may become: normal, user-defined or unused. Nothing for control pieces, turn
  // markers and bytes, whatever they are called.
  std::optional<TokenId> TextId(std::string_view text) const;
  const std::vector<TokenId>& text_ids() const { return text_ids_; }  // all of those, by text
  const std::string& text(TokenId id) const { return pieces_[id].text; }
  float score(TokenId id) const { return pieces_[id].score; }
  PieceType type(TokenId id) const { return pieces_[id].type; }
  bool is_unused(TokenId id) const { return type(id) == PieceType::kUnused; }
  // The user-defined piece that a normalised text begins with, the longest of several.
  std::optional<TokenId> UserDefinedAt(std::string_view text) const;

  // The tokens of a character that no piece has: its bytes, or the unknown token.
  void AppendUnknown(std::string_view character, std::vector<TokenId>* ids) const;
  bool byte_fallback() const { return byte_fallback_; }
  TokenId unknown_id() const { return unknown_id_; }
  // Whether a word's pieces do not depend on other words: U+2581 only ever stands at the beginning
  // of pieces, and none is unused.
  bool words_stand_alone() const { return words_stand_alone_; }

 private:
  SentencePieceVocabulary() = default;
  void Add(TokenId id, const SentencePieceModel& model);
  void AddOfTexts(TokenId id);  // makes it a piece that text may become

  std::vector<SentencePiece> pieces_;
  std::vector<std::string> bytes_;
  std::vector<TokenId> text_ids_;
  absl::flat_hash_map<std::string, TokenId> ids_by_text_;
  absl::flat_hash_map<std::string, TokenId> special_ids_;
  PrefixIndex user_defined_;
  std::array<TokenId, 256> byte_ids_{};
  bool byte_fallback_ = false;
  bool words_stand_alone_ = true;
  TokenId unknown_id_ = 0;
  size_t text_bytes_max_ = 0;
};

}  // namespace pregate
