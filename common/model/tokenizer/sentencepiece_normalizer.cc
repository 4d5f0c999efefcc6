#include "common/model/tokenizer/sentencepiece_normalizer.h"

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/sentencepiece_vocab.h"

namespace pregate {

absl::StatusOr<SentencePieceNormalizer> SentencePieceNormalizer::Make(
    const SentencePieceModel& model) {
  SentencePieceNormalizer out;
  out.add_dummy_prefix_ = model.add_dummy_prefix;
  out.remove_extra_whitespaces_ = model.remove_extra_whitespaces;
  out.user_defined_ = UserDefinedPieces(model);
  if (!model.charsmap.empty()) {
    ASSIGN_OR_RETURN(out.charsmap_, PrecompiledCharsmap::Read(model.charsmap));
  }
  return out;
}

SentencePieceNormalizer::Prefix SentencePieceNormalizer::NextPrefix(std::string_view text) const {
  if (!user_defined_.empty()) {
    const auto piece = user_defined_.LongestAt(text);
    if (piece) return {text.substr(0, piece->length), piece->length};
  }
  const PrecompiledCharsmap::Rule rule = charsmap_.Longest(text);
  if (rule.length > 0) return {rule.normal, rule.length};
  const Utf8Step step = NextUtf8(text, 0);
  if (step.kind != Utf8Kind::kCharacter) return {kReplacementCharacter, 1};
  return {text.substr(0, step.length), step.length};
}

std::string SentencePieceNormalizer::Normalise(std::string_view text) const {
  if (text.empty()) return "";
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  if (add_dummy_prefix_) out.append(kSpacePiece);
  bool after_space = remove_extra_whitespaces_;  // spaces at the beginning go, too
  for (size_t pos = 0; pos < text.size();) {
    const Prefix prefix = NextPrefix(text.substr(pos));
    pos += prefix.length;
    std::string_view normal = prefix.normal;
    while (after_space && normal.starts_with(' ')) normal.remove_prefix(1);
    if (normal.empty()) continue;
    for (const char c : normal) {
      if (c == ' ') {
        out.append(kSpacePiece);
      } else {
        out.push_back(c);
      }
    }
    after_space = remove_extra_whitespaces_ && normal.ends_with(' ');
  }
  while (remove_extra_whitespaces_ && out.ends_with(kSpacePiece)) {
    out.resize(out.size() - kSpacePiece.size());
  }
  return out;
}

}  // namespace pregate
