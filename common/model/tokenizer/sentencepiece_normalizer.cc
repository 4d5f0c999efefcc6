#include "common/model/tokenizer/sentencepiece_normalizer.h"

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/sentencepiece_vocab.h"

namespace pregate {
namespace {

constexpr size_t kUnitBytes = 4;
constexpr size_t kRuleBytesMax = 256;  // what one rule may write: a file must not blow up a prompt
constexpr int kRulesMax = 32;          // of one text's prefixes, as in the library

// A unit of darts-clone's array.
bool UnitHasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t UnitValue(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t UnitLabel(uint32_t unit) { return unit & 0x800000FF; }
uint32_t UnitOffset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

uint32_t ReadUnit(std::string_view bytes) {
  uint32_t unit = 0;
  for (size_t i = kUnitBytes; i-- > 0;) unit = unit << 8 | static_cast<uint8_t>(bytes[i]);
  return unit;
}

}  // namespace

absl::StatusOr<SentencePieceNormalizer> SentencePieceNormalizer::Make(
    const SentencePieceModel& model) {
  SentencePieceNormalizer out;
  out.add_dummy_prefix_ = model.add_dummy_prefix;
  out.remove_extra_whitespaces_ = model.remove_extra_whitespaces;
  out.user_defined_ = UserDefinedPieces(model);
  if (!model.charsmap.empty()) RETURN_IF_ERROR(out.ReadCharsmap(model.charsmap));
  return out;
}

// Size of the trie in bytes, the trie, the strings.
absl::Status SentencePieceNormalizer::ReadCharsmap(std::string_view charsmap) {
  const size_t size = charsmap.size() < kUnitBytes ? 0 : ReadUnit(charsmap);
  if (size == 0 || size % kUnitBytes != 0 || size > charsmap.size() - kUnitBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("precompiled_charsmap of ", charsmap.size(), " bytes: its trie has ", size));
  }
  for (size_t i = 0; i < size; i += kUnitBytes) {
    trie_.push_back(ReadUnit(charsmap.substr(kUnitBytes + i)));
  }
  normal_ = std::string(charsmap.substr(kUnitBytes + size));
  if (normal_.empty() || normal_.back() != '\0' || !IsUtf8(normal_)) {
    return absl::InvalidArgumentError(
        "precompiled_charsmap: its strings are not UTF-8 that ends with a zero byte");
  }
  for (size_t begin = 0; begin < normal_.size();) {
    const size_t end = normal_.find('\0', begin);
    if (end - begin > kRuleBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "precompiled_charsmap: a string of ", end - begin, " bytes, at most ", kRuleBytesMax));
    }
    begin = end + 1;
  }
  return absl::OkStatus();
}

// Every step of the trie is checked: units come from a file.
SentencePieceNormalizer::Prefix SentencePieceNormalizer::LongestRule(std::string_view text) const {
  Prefix longest{{}, 0};
  if (trie_.empty()) return longest;
  uint32_t node = UnitOffset(trie_[0]);
  int num_rules = 0;
  for (size_t i = 0; i < text.size() && num_rules < kRulesMax; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= trie_.size() || UnitLabel(trie_[node]) != byte) break;
    const uint32_t unit = trie_[node];
    node ^= UnitOffset(unit);
    if (!UnitHasLeaf(unit)) continue;
    if (node >= trie_.size() || UnitValue(trie_[node]) >= normal_.size()) break;
    longest = {normal_.c_str() + UnitValue(trie_[node]), i + 1};
    ++num_rules;
  }
  return longest;
}

SentencePieceNormalizer::Prefix SentencePieceNormalizer::NextPrefix(std::string_view text) const {
  if (!user_defined_.empty()) {
    const auto piece = user_defined_.LongestAt(text);
    if (piece) return {text.substr(0, piece->length), piece->length};
  }
  const Prefix rule = LongestRule(text);
  if (rule.length > 0) return rule;
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
