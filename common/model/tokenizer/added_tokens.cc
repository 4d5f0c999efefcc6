#include "common/model/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/pattern.h"

namespace pregate {
namespace {

constexpr std::string_view kTurnMarkers[] = {"<|im_start|>",
                                             "<|im_end|>",
                                             "<|im_sep|>",
                                             "<|endoftext|>",
                                             "<|eot_id|>",
                                             "<|eom_id|>",
                                             "<|end_of_text|>",
                                             "<|begin_of_text|>",
                                             "<|start_header_id|>",
                                             "<|end_header_id|>",
                                             "<|start_of_role|>",
                                             "<|end_of_role|>",
                                             "<start_of_turn>",
                                             "<end_of_turn>",
                                             "<|system|>",
                                             "<|user|>",
                                             "<|assistant|>",
                                             "<|end|>",
                                             "[INST]",
                                             "[/INST]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "<\uFF5CUser\uFF5C>",
                                             "<\uFF5CAssistant\uFF5C>",
                                             "<\uFF5Cbegin\u2581of\u2581sentence\uFF5C>",
                                             "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};

// Unicode's White_Space and the characters of words, as in the `tokenizers` package.
bool IsWhiteSpace(std::string_view character) {
  static const auto& pattern = *new Pattern("[\\t\\n\\x{0B}\\f\\r\\x{85}\\p{Z}]");
  return pattern.Matches(character);
}
bool IsWordCharacter(std::string_view character) {
  static const auto& pattern =
      *new Pattern("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");
  return pattern.Matches(character);
}

// The last and the first character of a text, empty where it is.
std::string_view LastCharacter(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    --begin;
    if ((static_cast<uint8_t>(text[begin]) & 0xC0) != 0x80) break;
  }
  return text.substr(begin);
}
std::string_view FirstCharacter(std::string_view text) {
  return text.empty() ? text : text.substr(0, NextUtf8(text, 0).length);
}

bool TouchesWord(std::string_view before, std::string_view behind) {
  const std::string_view last = LastCharacter(before), first = FirstCharacter(behind);
  return (!last.empty() && IsWordCharacter(last)) || (!first.empty() && IsWordCharacter(first));
}

size_t SpaceBytesBefore(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty() && IsWhiteSpace(LastCharacter(rest))) {
    rest.remove_suffix(LastCharacter(rest).size());
  }
  return text.size() - rest.size();
}

size_t SpaceBytesBehind(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty() && IsWhiteSpace(FirstCharacter(rest))) {
    rest.remove_prefix(FirstCharacter(rest).size());
  }
  return text.size() - rest.size();
}

absl::Status BadAddedToken(const AddedToken& token, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("added token ", token.id, " \"",
                                                 absl::CHexEscape(token.text.substr(0, 64)), "\" ",
                                                 std::string(why)));
}

}  // namespace

bool IsTurnMarker(std::string_view text) {
  return std::find(std::begin(kTurnMarkers), std::end(kTurnMarkers), text) !=
         std::end(kTurnMarkers);
}

absl::StatusOr<AddedTokens> AddedTokens::Make(std::vector<AddedToken> tokens,
                                              const Normalizer* normalizer) {
  AddedTokens out;
  absl::flat_hash_map<std::string, size_t> normal_texts;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const AddedToken& token = tokens[i];
    if (token.id < 0 || token.id >= kVocabSizeMax) return BadAddedToken(token, "has no token id");
    if (token.text.empty() || token.text.size() > kTokenTextBytesMax || !IsUtf8(token.text)) {
      return BadAddedToken(token,
                           absl::StrCat("of ", token.text.size(), " bytes: expected UTF-8 of 1 to ",
                                        kTokenTextBytesMax, " bytes"));
    }
    const auto [other, added] = out.ids_.emplace(token.text, token.id);
    if (!added) return BadAddedToken(token, absl::StrCat("is token ", other->second, " too"));
    out.by_id_.emplace(token.id, i);
    if (!token.normalized) {
      out.plain_.Add(token.text, i);
      continue;
    }
    out.normalized_texts_.Add(token.text, i);
    // Of two with one normal form the later counts; in the package now one, now the other.
    const std::string normal = normalizer ? normalizer->Normalise(token.text) : token.text;
    if (normal.empty()) return BadAddedToken(token, "is empty once it is normalized");
    normal_texts.insert_or_assign(normal, i);
  }
  for (const auto& [text, index] : normal_texts) out.normalized_.Add(text, index);
  out.tokens_ = std::move(tokens);
  out.plain_.Build();
  out.normalized_.Build();
  out.normalized_texts_.Build();
  return out;
}

std::optional<TokenId> AddedTokens::Find(std::string_view text) const {
  const auto it = ids_.find(absl::string_view(text.data(), text.size()));
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

std::string_view AddedTokens::TextOf(TokenId id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? std::string_view() : tokens_[it->second].text;
}

std::vector<AddedTokens::Stretch> AddedTokens::SplitMarked(const MarkedText& text) const {
  std::vector<Stretch> plain, out;
  CutMarked(plain_, text, text.bytes(), &plain);
  for (const Stretch& stretch : plain) {
    if (stretch.id) {
      out.push_back(stretch);
    } else {
      CutMarked(normalized_texts_, text, stretch.text, &out);
    }
  }
  return out;
}

void AddedTokens::AppendToken(const AddedToken& token, std::string_view text, size_t begin,
                              size_t end, size_t* done, std::vector<Stretch>* out) const {
  if (token.lstrip) begin = std::max(*done, begin - SpaceBytesBefore(text.substr(0, begin)));
  if (token.rstrip) end += SpaceBytesBehind(text.substr(end));
  if (*done < begin) out->push_back({text.substr(*done, begin - *done), std::nullopt});
  // Of a token that strips, nothing is left where the one before it has stripped all of it.
  if (begin < end) out->push_back({text.substr(begin, end - begin), token.id});
  *done = end;
}

// What of a token is the caller's hides nothing: else a message could hide the end of its turn.
void AddedTokens::CutMarked(const PrefixIndex& index, const MarkedText& whole,
                            std::string_view text, std::vector<Stretch>* out) const {
  const size_t offset = text.data() - whole.bytes().data();
  size_t done = 0, run_begin = 0;
  for (const MarkedText::Run& run : whole.runs()) {
    const size_t begin = std::max(run_begin, offset), end = std::min(run.end, offset + text.size());
    run_begin = run.end;
    if (!run.is_template || index.empty()) continue;
    for (size_t pos = begin; pos < end;) {
      const auto found = index.LongestAt(text.substr(pos - offset, end - pos));
      const size_t at = pos - offset;
      pos += found ? found->length : 1;
      if (!found) continue;
      const AddedToken& token = tokens_[found->value];
      if (!token.special && !IsTurnMarker(token.text)) continue;
      const std::string_view behind = text.substr(at + found->length);
      if (token.single_word && TouchesWord(text.substr(0, at), behind)) continue;
      AppendToken(token, text, at, at + found->length, &done, out);
    }
  }
  if (done < text.size()) out->push_back({text.substr(done), std::nullopt});
}

// A token that does not count hides what lies within it, as in the package.
std::vector<AddedTokens::Stretch> AddedTokens::Cut(const PrefixIndex& index,
                                                   std::string_view text) const {
  std::vector<Stretch> out;
  size_t done = 0;
  for (size_t pos = index.empty() ? text.size() : 0; pos < text.size();) {
    const auto found = index.LongestAt(text.substr(pos));
    if (!found) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[found->value];
    const size_t begin = pos, end = pos + found->length;
    pos = end;
    if (token.special || IsTurnMarker(token.text)) continue;
    if (token.single_word && TouchesWord(text.substr(0, begin), text.substr(end))) continue;
    AppendToken(token, text, begin, end, &done, &out);
  }
  if (done < text.size()) out.push_back({text.substr(done), std::nullopt});
  return out;
}

}  // namespace pregate
