// What a request must get, computed one token at a time without any scheduler.
#pragma once

#include <string>
#include <vector>

#include "scheduler_service/core/request.h"
#include "sim/testing/fake_model.h"
#include "sim/testing/letter_tokenizer.h"

namespace pregate::scheduler {

struct ReferenceAnswer {
  std::vector<ExpertId> prompt_routes;
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  std::vector<float> logprobs;         // of tokens
  std::vector<float> prompt_logprobs;  // of the prompt's from the second on
  std::string text;
  FinishReason reason = FinishReason::kLength;
  std::string stop_string;
};

// REQUIRES: request.seed and request.max_tokens are set; no resume tokens.
ReferenceAnswer Generate(const FakeModel& model, const LetterTokenizer& tokenizer,
                         const GenerateRequest& request);

// The stop string whose match ends first in `text` (of those, the longest), found by trying every
// end in turn.
struct NaiveMatch {
  std::string stop;
  size_t begin = std::string::npos;  // npos: none
};
NaiveMatch FindStop(const std::string& text, const std::vector<std::string>& stops);

}  // namespace pregate::scheduler
