// A generation request after the edge has validated and tokenised it, and where its answer goes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/result.h"
#include "common/step/sampling.h"

namespace pregate {

struct CompiledGrammar;  // common/grammar/matcher.h

struct GenerateRequest {
  std::string request_id;
  std::string tenant;
  // Whose it is: its tenant's, or its connection's where there is none. Who waits is served fairly by it.
  uint64_t client = 0;
  std::vector<TokenId> prompt;  // not empty
  // Resume: tokens (and routes) received before; they count as generated.
  std::vector<TokenId> resume_tokens;
  std::vector<ExpertId> resume_routes;
  SamplingParams sampling;
  std::vector<LogitBias> logit_bias;  // ascending by token
  std::optional<uint64_t> seed;       // drawn at admission if missing
  std::optional<int32_t> max_tokens;  // default: what remains of the context
  int32_t min_tokens = 0;  // generated before an end token is drawn or a stop string counts
  std::optional<int32_t> logprobs;         // alternatives beside each generated token's own
  std::optional<int32_t> prompt_logprobs;  // the same of the prompt's tokens
  // Generations of the prompt, and how many are made to choose them from (0: n). The engine makes one:
  // engine/generations.h asks it several times.
  int32_t n = 1;
  int32_t best_of = 0;
  int32_t priority = 0;  // higher ones are served first
  std::vector<std::string> stop_strings;
  std::vector<TokenId> stop_tokens;  // beside the model's own
  bool ignore_eos = false;
  bool no_drafts = false;
  // A special token that is written in the text all the same, and how.
  std::optional<std::pair<TokenId, std::string>> shown_token;
  // That the text of the answer is held to; null: none. The engine's thread alone uses it.
  std::shared_ptr<CompiledGrammar> grammar;
  absl::Time deadline = absl::InfiniteFuture();
  std::string traceparent;  // for router and workers; empty: of no trace
};

enum class FinishReason { kLength, kStopToken, kStopString, kCancelled, kDeadline, kError };
const char* FinishReasonName(FinishReason reason);  // "length", "stop_token", ...

struct StartInfo {
  uint64_t seed = 0;
  std::string model_digest;
  std::string numerics_id;
  int32_t prompt_tokens = 0;
  std::vector<ExpertId> prompt_routes;
};

// Log-probabilities of prompt tokens from `position` on, in order and before the first TokensOut: each
// token's own, then the likeliest in its place.
struct PromptOut {
  int32_t position = 1;
  std::vector<std::vector<TokenLogprob>> logprobs;
};

// Newly committed tokens with the text that has become complete with them.
struct TokensOut {
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;  // [tokens]: each token's own
  // [tokens] where they were asked for: the token's own, then the likeliest in its place.
  std::vector<std::vector<TokenLogprob>> logprobs;
  std::string text;
  int32_t index = 0;  // of the choice
};

// One of several generations has ended.
struct ChoiceDone {
  int32_t index = 0;
  FinishReason reason = FinishReason::kLength;
  std::string stop_string;
  int32_t generated_tokens = 0;
  uint64_t seed = 0;  // that it was drawn with
};

struct DoneInfo {
  absl::Status status;  // OK for a finished generation; else why not
  FinishReason reason = FinishReason::kLength;
  std::string stop_string;  // the one that matched
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t draft_tokens = 0;     // guesses that were run
  int32_t accepted_tokens = 0;  // of them: those that were right
  int32_t preemptions = 0;
  absl::Duration queue_time, route_time, ttft, total;
  absl::Duration first_row;    // from acceptance to the first row in a step; zero: there was none
  absl::Duration token_gap;    // mean, between tokens that were sent
  absl::Duration retry_after;  // with RESOURCE_EXHAUSTED
};

// What the client of a request is told: StartInfo once, PromptOut, then TokensOut any number of times,
// DoneInfo once and last (alone where the request is refused). ChoiceDone is for several generations.
using ToClient = std::variant<StartInfo, PromptOut, TokensOut, ChoiceDone, DoneInfo>;

// Tells an object that has a Take for each of them.
template <typename Client>
std::function<void(ToClient)> SendTo(std::shared_ptr<Client> client) {
  return [client = std::move(client)](const ToClient& message) {
    std::visit([&](const auto& m) { client->Take(m); }, message);
  };
}

}  // namespace pregate
