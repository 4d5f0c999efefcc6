// A request's generated tokens on their way to text: stop rules, incremental decoding, stop
// strings.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/tokenizer.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/core/stop_scanner.h"

namespace pregate::scheduler {

// Not thread-safe. The tokenizer outlives it.
class TokenOutput {
 public:
  struct Rules {
    std::vector<std::string> stop_strings;
    std::vector<TokenId>
        stop_tokens;  // the model's own among them, unless the request ignores them
    int32_t max_tokens = 0;
    // A special token that gives a text all the same.
    std::optional<std::pair<TokenId, std::string>> shown_token;
    int32_t min_tokens = 0;  // in whose text no stop string is looked for
  };
  TokenOutput(const Tokenizer& tokenizer, Rules rules);

  // Takes the next generated token. The reason when it is the last one: a stop token (which gives
  // no text), a stop string that its text completes (text from the match on is cut), or max_tokens.
  std::optional<FinishReason> Accept(TokenId token);

  // The text that may go out since the last call.
  std::string TakeText();
  const std::optional<std::string>& stop_string() const { return scanner_.matched(); }

 private:
  void Add(std::string text);
  FinishReason End(FinishReason reason);

  IncrementalDecoder decoder_;
  StopScanner scanner_;
  absl::flat_hash_set<TokenId> stop_tokens_;
  int32_t tokens_left_;
  int32_t unscanned_left_;  // of min_tokens; negative: the text is looked at
  std::string text_;
};

}  // namespace pregate::scheduler
