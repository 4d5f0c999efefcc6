// The member "logprobs" of an OpenAI choice.
#pragma once

#include <string>
#include <vector>

#include "gateway_service/core/generation.h"

namespace pregate::gateway::openai {

// A token as text; one that is only a part of a character as "bytes:\xe2\x80", as OpenAI has it.
std::string TokenText(const std::string& bytes);

// Collects a choice's tokens. Of a chat an object for each; of a completion four arrays, with offsets
// in characters from the answer's (with echo the prompt's) begin.
class Logprobs {
 public:
  explicit Logprobs(bool chat) : chat_(chat) {}

  void Add(const TokenLogprobs& token);
  // The prompt's first token, which has no probability. Completions only.
  void AddFirst(const std::string& bytes);
  bool any() const { return !content_.empty() || !tokens_.empty(); }  // since Take
  // What was added since the last call, as JSON; "null": nothing.
  std::string Take();

 private:
  void AddCompletion(const std::string& bytes, const std::string& logprob, const std::string& top);

  const bool chat_;
  int64_t offset_ = 0;                              // characters so far
  std::string content_;                             // of a chat
  std::string tokens_, logprobs_, tops_, offsets_;  // of a completion
};

}  // namespace pregate::gateway::openai
