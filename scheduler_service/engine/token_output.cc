#include "scheduler_service/engine/token_output.h"

#include <utility>

namespace pregate::scheduler {

TokenOutput::TokenOutput(const Tokenizer& tokenizer, Rules rules)
    : decoder_(tokenizer),
      scanner_(std::move(rules.stop_strings)),
      stop_tokens_(rules.stop_tokens.begin(), rules.stop_tokens.end()),
      tokens_left_(rules.max_tokens),
      unscanned_left_(rules.min_tokens) {
  if (rules.shown_token) decoder_.Show(rules.shown_token->first, rules.shown_token->second);
}

std::optional<FinishReason> TokenOutput::Accept(TokenId token) {
  --tokens_left_;
  --unscanned_left_;
  if (stop_tokens_.contains(token)) return End(FinishReason::kStopToken);
  Add(decoder_.Add(token));
  if (scanner_.matched()) return FinishReason::kStopString;
  if (tokens_left_ == 0) return End(FinishReason::kLength);
  return std::nullopt;
}

void TokenOutput::Add(std::string text) {
  text_ += unscanned_left_ >= 0 ? text : scanner_.Add(text);
}

// What decoder and scanner still hold becomes text; it may yet complete a stop string.
FinishReason TokenOutput::End(FinishReason reason) {
  Add(decoder_.Finish());
  if (scanner_.matched()) return FinishReason::kStopString;
  text_ += scanner_.Flush();
  return reason;
}

std::string TokenOutput::TakeText() { return std::exchange(text_, ""); }

}  // namespace pregate::scheduler
