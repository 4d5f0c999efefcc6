// A checked SentencePiece vocabulary: pieces by text, tokens as bytes, special tokens.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/model/sentencepiece_model.h"

namespace pregate {

// Immutable after Build; thread-safe.
class SentencePieceVocabulary {
 public:
  // Checks the model.
  static absl::StatusOr<SentencePieceVocabulary> Build(const SentencePieceModel& model);

  int size() const { return static_cast<int>(pieces_.size()); }
  bool Contains(TokenId id) const { return id >= 0 && id < size(); }
  // Control, user-defined and unknown pieces.
  bool IsSpecial(TokenId id) const { return !Contains(id) || special_[id]; }
  // What the token stands for in a text: U+2581 as a space; empty for special tokens.
  std::string_view Bytes(TokenId id) const {
    return Contains(id) ? std::string_view(bytes_[id]) : std::string_view();
  }
  std::optional<TokenId> SpecialId(std::string_view text) const;

  // A piece that text may become: normal, or unused. Nothing for special tokens and bytes,
  // whatever they are called.
  std::optional<TokenId> TextId(std::string_view text) const;
  const std::vector<TokenId>& text_ids() const { return text_ids_; }  // all of those, by text
  const std::string& text(TokenId id) const { return pieces_[id].text; }
  float score(TokenId id) const { return pieces_[id].score; }
  bool is_unused(TokenId id) const { return pieces_[id].type == PieceType::kUnused; }

  // The tokens of a character that no piece has: its bytes, or the unknown token.
  void AppendUnknown(std::string_view character, std::vector<TokenId>* ids) const;
  bool byte_fallback() const { return byte_fallback_; }
  TokenId unknown_id() const { return unknown_id_; }
  // Whether U+2581 only ever stands at the beginning of a text's pieces: then a piece never reaches
  // over the beginning of a word.
  bool pieces_keep_to_words() const { return pieces_keep_to_words_; }

 private:
  SentencePieceVocabulary() = default;
  void Add(TokenId id);

  std::vector<SentencePiece> pieces_;
  std::vector<std::string> bytes_;
  std::vector<bool> special_;
  std::vector<TokenId> text_ids_;
  absl::flat_hash_map<std::string, TokenId> ids_by_text_;
  absl::flat_hash_map<std::string, TokenId> special_ids_;
  std::array<TokenId, 256> byte_ids_{};
  bool byte_fallback_ = false;
  bool pieces_keep_to_words_ = true;
  TokenId unknown_id_ = 0;
  size_t text_bytes_max_ = 0;
};

}  // namespace pregate
