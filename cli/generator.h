// One generation, wherever it runs: in this process or on a cluster.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/ids.h"
#include "common/grammar/constraint.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/step/sampling.h"
#include "common/tls/tls_material.h"

namespace pregate::cli {

struct GenerateJob {
  std::string tenant;
  std::string prompt;
  bool chat = false;  // the prompt is a user's message; the model's template is applied
  std::vector<ChatMessage> messages;  // not empty: a conversation, in the prompt's place
  std::optional<int32_t> max_tokens;
  int32_t min_tokens = 0;
  SamplingParams sampling;
  std::vector<LogitBias> logit_bias;  // ascending by token
  std::optional<uint64_t> seed;
  std::vector<std::string> stop_strings;
  std::optional<int32_t> logprobs;         // of generated tokens, and so many alternatives of each
  std::optional<int32_t> prompt_logprobs;  // the same of the prompt's
  int32_t n = 1;                           // generations
  int32_t best_of = 0;                     // of which they are the best; 0: n
  int32_t priority = 0;
  bool echo = false;
  bool ignore_eos = false;
  bool no_drafts = false;
  std::optional<Constraint> constraint;
  absl::Duration timeout = absl::ZeroDuration();  // of a server's whole answer; 0: none
};

struct TokenProbability {
  TokenId id = 0;
  float logprob = 0;
  std::string bytes;
};
// A token's own, then the likeliest in its place.
using TokenProbabilities = std::vector<TokenProbability>;

struct GenerateChoice {
  std::string text;
  std::vector<TokenId> ids;
  std::vector<ExpertId> routes;              // of ids; empty for a dense model
  std::vector<TokenProbabilities> logprobs;  // of ids, where they were asked for
  std::string finish_reason;
};

// The first choice and what is of all.
struct GenerateOutcome : GenerateChoice {
  std::vector<GenerateChoice> others;   // choices 1, 2, ...
  std::vector<ExpertId> prompt_routes;  // empty for a dense model
  std::vector<TokenId> prompt_ids;      // with echo, as the next
  std::string prompt_text;
  std::vector<TokenProbabilities> prompt_logprobs;  // from the second token on
  uint64_t seed = 0;
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  // of all choices, best_of's others too
  int32_t cached_tokens = 0;     // of the prompt: those that were computed before
  int32_t draft_tokens = 0;      // guesses that were checked
  int32_t accepted_tokens = 0;   // of them: those that were right
  double ttft_s = 0;             // call to first token, as the caller sees it
  // After the first tokens; nothing when all came at once or too soon after each other to tell.
  std::optional<double> tokens_per_s;
};

GenerateChoice& ChoiceOf(GenerateOutcome* outcome, int32_t index);

// The conversation that `job` asks to go on with; empty: its prompt is plain text.
std::vector<ChatMessage> Conversation(const GenerateJob& job);

// "prompt 42 tokens · answer 23 tokens (stop_token) · TTFT 148.6 ms · 70.8 tokens/s · seed 7"
std::string SummaryText(const GenerateOutcome& outcome);
// Two lines on the routes of prompt and answer; empty for a dense model.
std::string RoutesText(const GenerateOutcome& outcome);

// Called with text of the first choice as it becomes complete.
using OnText = std::function<void(std::string_view)>;

// Not thread-safe.
class Generator {
 public:
  virtual ~Generator() = default;
  virtual absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job,
                                                   const OnText& on_text) = 0;
};

// A generator on a running cluster, and what a conversation needs beside. Cancel may be called from
// any thread, the rest from one.
class RemoteClient : public Generator {
 public:
  // Ends a Generate under way, whose status is then CANCELLED.
  virtual void Cancel() = 0;
  // Tokens of the prompt that these messages become.
  virtual absl::StatusOr<int32_t> CountTokens(const std::vector<ChatMessage>& messages) = 0;
  struct Model {
    std::string name;
    int32_t context_tokens = 0;  // longest prompt plus answer
  };
  virtual absl::StatusOr<Model> Describe() = 0;
};

// Takes the times of one generation as its tokens arrive.
class TokenTimer {
 public:
  TokenTimer() : start_(absl::Now()) {}
  void Add(size_t num_tokens);
  // Fills ttft_s and tokens_per_s.
  void Report(GenerateOutcome* outcome) const;

 private:
  absl::Time start_, first_, last_;
  size_t num_first_ = 0, num_tokens_ = 0;
};

struct LocalOptions {
  std::string model;
  std::string dtype = "f32";
  int32_t threads = 0;                  // 0: all cores
  std::optional<int32_t> expert_slots;  // as WorkerOptions'
};
// Router, worker and scheduler in this process over in-process links.
absl::StatusOr<std::unique_ptr<Generator>> MakeLocalGenerator(const LocalOptions& options);

// A client of `address` ("HOST:PORT" or "unix:PATH"). Waits up to `wait` for the server to be
// ready. One at a time in a process.
absl::StatusOr<std::unique_ptr<RemoteClient>> MakeRemoteGenerator(const std::string& address,
                                                                  const TlsOptions& tls,
                                                                  absl::Duration wait);

}  // namespace pregate::cli
