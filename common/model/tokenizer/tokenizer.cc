#include "common/model/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/conversation.h"
#include "common/model/tokenizer/tokenizer_chat.h"

namespace pregate {
namespace {

// U+FFFD for `num_bytes` bytes that began a character and are none.
void AppendReplacement(TokenForm form, size_t num_bytes, std::string* text) {
  if (form != TokenForm::kSingleByte && form != TokenForm::kByteRun) num_bytes = 1;
  for (size_t i = 0; i < num_bytes; ++i) text->append(kReplacementCharacter);
}

// Moves what is complete in `bytes` to `text`, ill-formed stretches as U+FFFD; what a further token
// could complete stays.
void MoveCompleteText(TokenForm form, std::string* bytes, std::string* text) {
  size_t pos = 0;
  while (pos < bytes->size()) {
    const Utf8Step step = NextUtf8(*bytes, pos);
    if (step.kind == Utf8Kind::kIncomplete) break;
    if (step.kind == Utf8Kind::kCharacter) {
      text->append(std::string_view(*bytes).substr(pos, step.length));
    } else {
      AppendReplacement(form, step.length, text);
    }
    pos += step.length;
  }
  bytes->erase(0, pos);
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> Tokenizer::ApplyChatTemplate(
    absl::Span<const ChatMessage> messages, bool add_generation_prompt) const {
  RETURN_IF_ERROR(CheckRoles(messages));
  return ApplyConversation(MakeConversation(messages, add_generation_prompt, absl::Now()));
}

const AddedTokens& Tokenizer::special_tokens() const {
  static const auto& none = *new AddedTokens;
  return none;
}

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

std::string_view IncrementalDecoder::BytesOf(TokenId id, TokenForm form) {
  if (leading_spaces_ == LeadingSpaces::kDropOfFirstToken) {
    leading_spaces_ = LeadingSpaces::kKeep;
    return tokenizer_->FirstTokenBytes(id);
  }
  std::string_view bytes = tokenizer_->TokenBytes(id);
  if (leading_spaces_ == LeadingSpaces::kKeep) return bytes;
  if (leading_spaces_ == LeadingSpaces::kDropOfText) return bytes;
  const bool drops = form == TokenForm::kSpacedText;
  if (drops) bytes.remove_prefix(1);
  const bool dropped_last = drops && leading_spaces_ == LeadingSpaces::kDropFirst;
  if (dropped_last || !bytes.empty()) leading_spaces_ = LeadingSpaces::kKeep;
  return bytes;
}

std::string IncrementalDecoder::WithoutFirstSpace(std::string text) {
  if (leading_spaces_ != LeadingSpaces::kDropOfText || text.empty()) return text;
  leading_spaces_ = LeadingSpaces::kKeep;
  if (text.front() == ' ') text.erase(0, 1);
  return text;
}

std::string IncrementalDecoder::Add(TokenId id) {
  if (shown_ && shown_->first == id) return WithoutFirstSpace(TakePending()) + shown_->second;
  const TokenForm form = tokenizer_->Form(id);
  if (form == TokenForm::kNothing) return "";
  const bool ends_character = form == TokenForm::kText || form == TokenForm::kSpacedText;
  std::string text = ends_character ? TakePending() : "";
  pending_form_ = form;
  pending_.append(BytesOf(id, form));
  if (form != TokenForm::kByteRun) MoveCompleteText(form, &pending_, &text);
  return WithoutFirstSpace(std::move(text));
}

std::string IncrementalDecoder::Finish() { return WithoutFirstSpace(TakePending()); }

std::string IncrementalDecoder::TakePending() {
  std::string text, bytes = std::exchange(pending_, {});
  if (bytes.empty()) return text;
  const bool is_run = pending_form_ == TokenForm::kByteRun;
  if (is_run && IsUtf8(bytes)) return bytes;
  // But for a run, at most one character can be incomplete: its bytes are one longest prefix.
  AppendReplacement(pending_form_, bytes.size(), &text);
  return text;
}

}  // namespace pregate
