#include "common/model/tokenizer/token_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

std::string TokenExcerpt(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 64))), "\"");
}

size_t SizeOf(const PipelineTokenizerSpec& spec) {
  size_t size = spec.tokens.size();
  for (const AddedToken& token : spec.added) {
    size = std::max(size, static_cast<size_t>(token.id) + 1);
  }
  return size;
}

absl::Status CheckId(const char* field, std::optional<TokenId> id, size_t vocab_size) {
  if (!id || (*id >= 0 && static_cast<size_t>(*id) < vocab_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", *id, " is outside the vocabulary of ", vocab_size));
}

absl::Status CheckIds(const PipelineTokenizerSpec& spec) {
  const size_t size = SizeOf(spec);
  if (size == 0 || size > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens: ", size, ", expected 1 to ", kVocabSizeMax));
  }
  RETURN_IF_ERROR(CheckId("bos", spec.bos, size));
  RETURN_IF_ERROR(CheckId("eos", spec.eos, size));
  RETURN_IF_ERROR(CheckId("unknown", spec.unknown, size));
  if (!spec.add_bos || spec.bos) return absl::OkStatus();
  return absl::InvalidArgumentError("add_bos is set, but there is no bos token");
}

absl::Status CheckToken(size_t id, const std::string& text) {
  if (text.size() <= kTokenTextBytesMax && IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("token ", id, " ", TokenExcerpt(text), " of ",
                                                 text.size(), " bytes: expected UTF-8 of at most ",
                                                 kTokenTextBytesMax, " bytes"));
}

}  // namespace

absl::StatusOr<TokenIds> IndexTokens(const PipelineTokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckIds(spec));
  TokenIds ids;
  ids.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& text = spec.tokens[id];
    RETURN_IF_ERROR(CheckToken(id, text));
    if (text.empty()) continue;
    const auto [other, added] = ids.emplace(text, static_cast<TokenId>(id));
    if (added) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token ", id, " ", TokenExcerpt(text), " is token ", other->second, " too"));
  }
  return ids;
}

// An added token's text counts for its id, whatever the model's own vocabulary has there.
TokenTable::TokenTable(const PipelineTokenizerSpec& spec, const Normalizer& normalizer,
                       const TokenDecoder& decoder)
    : entries_(SizeOf(spec)) {
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id].empty()) Set(static_cast<TokenId>(id), spec.tokens[id], false, decoder);
  }
  for (const AddedToken& token : spec.added) {
    const std::string text = token.normalized ? normalizer.Normalise(token.text) : token.text;
    Set(token.id, text, token.special, decoder);
  }
}

void TokenTable::Set(TokenId id, const std::string& text, bool special,
                     const TokenDecoder& decoder) {
  first_bytes_.erase(id);
  entries_[id] = {};
  if (special) return;
  DecodedToken decoded = decoder.Decode(text);
  if (decoded.first_bytes != decoded.bytes) first_bytes_[id] = std::move(decoded.first_bytes);
  entries_[id] = {std::move(decoded.bytes), decoded.form, false};
}

std::string_view TokenTable::FirstBytes(TokenId id) const {
  const auto it = first_bytes_.find(id);
  return it == first_bytes_.end() ? Bytes(id) : std::string_view(it->second);
}

}  // namespace pregate
