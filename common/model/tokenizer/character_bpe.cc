#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/bpe_merges.h"
#include "common/model/tokenizer/byte_tokens.h"

namespace pregate {
namespace {

// Whether a U+2581 stands behind another character.
bool CrossesWords(std::string_view token) {
  while (token.starts_with(kSpacePiece)) token.remove_prefix(kSpacePiece.size());
  return token.find(kSpacePiece) != std::string_view::npos;
}

class CharacterBpe final : public WordModel {
 public:
  CharacterBpe(const PipelineTokenizerSpec& spec, const TokenIds& ids, BpeMerges merges)
      : merges_(std::move(merges)),
        byte_tokens_(ids),
        byte_fallback_(spec.byte_fallback),
        unknown_(spec.unknown),
        fuse_unknown_(spec.fuse_unknown),
        ignore_merges_(spec.ignore_merges) {
    words_stand_alone_ = !ignore_merges_;
    for (const auto& [text, id] : ids) {
      if (NextUtf8(text, 0).length == text.size()) characters_.emplace(KeyOf(text), id);
      if (ignore_merges_) whole_words_.emplace(text, id);
      words_stand_alone_ = words_stand_alone_ && !CrossesWords(text);
    }
    // Between unknown characters a space ends their run, as a known one does.
    words_stand_alone_ = words_stand_alone_ && characters_.contains(KeyOf(kSpacePiece));
  }

  bool words_stand_alone() const override { return words_stand_alone_; }

  void Append(std::string_view word, std::vector<TokenId>* ids) const override {
    if (ignore_merges_) {
      const auto whole = whole_words_.find(absl::string_view(word.data(), word.size()));
      if (whole != whole_words_.end()) return ids->push_back(whole->second);
    }
    merges_.Append(SymbolsOf(word), ids);
  }

 private:
  // The bytes of one character as a number.
  static uint32_t KeyOf(std::string_view character) {
    uint32_t key = 0;
    for (const char c : character) key = key << 8 | static_cast<uint8_t>(c);
    return key;
  }

  // The unknown token comes where the next known character does, behind tokens of bytes between,
  // as in the package.
  std::vector<TokenId> SymbolsOf(std::string_view word) const {
    std::vector<TokenId> symbols;
    symbols.reserve(word.size());
    bool pending = false;
    for (size_t pos = 0; pos < word.size();) {
      const std::string_view character = word.substr(pos, NextUtf8(word, pos).length);
      pos += character.size();
      const auto it = characters_.find(KeyOf(character));
      if (it != characters_.end()) {
        if (pending) symbols.push_back(*unknown_);
        pending = false;
        symbols.push_back(it->second);
      } else if (!byte_fallback_ || !byte_tokens_.Append(character, &symbols)) {
        if (pending && !fuse_unknown_) symbols.push_back(*unknown_);
        pending = unknown_.has_value();
      }
    }
    if (pending) symbols.push_back(*unknown_);
    return symbols;
  }

  const BpeMerges merges_;
  const ByteTokens byte_tokens_;
  const bool byte_fallback_;
  const std::optional<TokenId> unknown_;
  const bool fuse_unknown_, ignore_merges_;
  bool words_stand_alone_;
  absl::flat_hash_map<uint32_t, TokenId> characters_;
  absl::flat_hash_map<std::string, TokenId> whole_words_;  // where merges are ignored
};

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeCharacterBpe(const PipelineTokenizerSpec& spec,
                                                            const TokenIds& ids) {
  ASSIGN_OR_RETURN(BpeMerges merges, BpeMerges::Make(spec, ids));
  return std::make_unique<CharacterBpe>(spec, ids, std::move(merges));
}

}  // namespace pregate
