#include "common/model/tokenizer.h"

#include <algorithm>

#include "common/base/utf8.h"

namespace pregate {
namespace {

// Moves what is complete in `bytes` to `text`, ill-formed stretches as U+FFFD; what a further token
// could complete stays.
void MoveCompleteText(std::string* bytes, std::string* text) {
  size_t pos = 0;
  while (pos < bytes->size()) {
    const Utf8Step step = NextUtf8(*bytes, pos);
    if (step.kind == Utf8Kind::kIncomplete) break;
    text->append(step.kind == Utf8Kind::kCharacter
                     ? std::string_view(*bytes).substr(pos, step.length)
                     : kReplacementCharacter);
    pos += step.length;
  }
  bytes->erase(0, pos);
}

}  // namespace

std::vector<TokenId> Tokenizer::StopTokens() const {
  std::vector<TokenId> stops = OwnStopTokens();
  for (const TokenId id : added_stops_) {
    if (std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
  }
  return stops;
}

void Tokenizer::AddStopTokens(absl::Span<const TokenId> ids) {
  added_stops_.insert(added_stops_.end(), ids.begin(), ids.end());
}

std::string Tokenizer::Decode(absl::Span<const TokenId> ids) const {
  IncrementalDecoder decoder(*this, /*starts_text=*/true);
  std::string text;
  for (const TokenId id : ids) text += decoder.Add(id);
  return text + decoder.Finish();
}

std::vector<TokenId> Tokenizer::EncodePrompt(std::string_view text) const {
  std::vector<TokenId> ids = Encode(text);
  if (const auto bos = PromptBos()) ids.insert(ids.begin(), *bos);
  return ids;
}

std::string IncrementalDecoder::Add(TokenId id) {
  std::string_view bytes = tokenizer_->TokenBytes(id);
  if (drop_space_ && !bytes.empty()) {
    if (bytes.starts_with(' ')) bytes.remove_prefix(1);
    drop_space_ = false;
  }
  pending_.append(bytes);
  std::string text;
  MoveCompleteText(&pending_, &text);
  return text;
}

std::string IncrementalDecoder::Finish() {
  // At most one character can be incomplete: its bytes are one longest prefix.
  const bool cut = !pending_.empty();
  pending_.clear();
  return cut ? std::string(kReplacementCharacter) : std::string();
}

}  // namespace pregate
