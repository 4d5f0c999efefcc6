// One generation between the HTTP APIs and the gRPC API, as plain structs: what a client asks for,
// whichever protocol said it, and what the scheduler answers. The codec to protobuf is the edge's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/step/sampling.h"

namespace pregate::gateway {

struct ToolCall {
  std::string id;  // of the conversation alone
  std::string name;
  std::string arguments;  // a JSON object
  bool operator==(const ToolCall&) const = default;
};

struct Message {
  std::string role;  // "system", "user", "assistant" or "tool"
  std::string content;
  std::vector<ToolCall> tool_calls = {};  // an assistant's
  std::string tool_call_id = {};          // a tool's: the call that it answers
  std::string name = {};                  // a tool's
  bool operator==(const Message&) const = default;
};
using Conversation = std::vector<Message>;
using Prompt = std::variant<std::string, std::vector<TokenId>, Conversation>;

// What the text has to be (docs/API.md, "Structured output").
struct AnyJsonObject {};
struct JsonSchema {
  std::string text;  // JSON
};
struct Regex {
  std::string text;
};
struct TextChoice {
  std::vector<std::string> texts;
};
struct MarkedJson {  // free text but for what stands between the marks
  std::string begin, end;
  JsonSchema schema;
  bool once = false;
};
using Constraint =
    std::variant<std::monostate, AnyJsonObject, JsonSchema, Regex, TextChoice, MarkedJson>;

// What the model may call.
struct Tool {
  std::string name;
  std::string definition;  // JSON, as chat templates take it
  std::string parameters;  // a JSON Schema, as JSON
  bool strict = false;     // arguments must be of the schema
  bool operator==(const Tool&) const = default;
};
enum class ToolUse { kAuto, kNone, kRequired };

// How a model writes calls: ToolFormat of inference.proto.
struct ToolFormat {
  std::string name, begin, end;
  bool is_list = false;
  bool operator==(const ToolFormat&) const = default;
};

struct Generation {
  std::string model;  // "": whichever is served
  Prompt prompt;
  std::vector<Prompt> more_prompts;  // of a completion: each is a generation of its own
  SamplingParams sampling;
  std::vector<LogitBias> logit_bias;
  std::optional<uint64_t> seed;
  std::optional<int32_t> max_tokens;  // nothing: what remains of the context
  int32_t min_tokens = 0;
  std::vector<std::string> stop_strings;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false;
  Constraint constraint;
  bool no_drafts = false;
  std::vector<Tool> tools;
  ToolUse tool_use = ToolUse::kAuto;
  std::string tool_name;  // the one that is to be called; empty: any
  bool parallel_tool_calls = true;
  // How calls are found in the text; nothing: they are not looked for. Prepared by ApplyTools.
  std::optional<ToolFormat> tool_format;
  std::optional<int32_t> priority;  // nothing: the token's, or 0
  int32_t n = 1;                    // choices
  int32_t best_of = 0;              // of so many; 0: n
  std::optional<int32_t> logprobs, prompt_logprobs;
  bool echo = false;

  int32_t num_prompts() const { return 1 + static_cast<int32_t>(more_prompts.size()); }
  int32_t num_choices() const { return n * num_prompts(); }
  bool several() const { return n > 1 || best_of > 1 || !more_prompts.empty(); }

  // How the answer is laid out.
  bool stream = false;
  bool include_usage = false;     // OpenAI: a last chunk with the usage
  bool continuous_usage = false;  // and the usage so far in every chunk
  bool return_routes = false;     // ids and routes of the tokens, in the object "pregate"
};

// What schedulers say. Of each prompt: Started once, PromptTokens before the first Tokens, Tokens any
// number of times, of several choices ChoiceFinished for each. Finished once and last. An error takes
// the place of what has not come yet. The choices of prompt p have the indices p * n to p * n + n - 1.

struct Started {
  uint64_t seed = 0;
  std::string model_digest;
  std::string numerics_id;
  int32_t prompt_tokens = 0;
  std::vector<ExpertId> prompt_routes;  // where return_routes asked for them
  std::string prompt_text;              // where echo did
  int32_t prompt = 0;                   // which one
};

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;
  std::string bytes;  // maybe a part of a UTF-8 character; none of a special token
};
// A token's own, and the likeliest in its place.
struct TokenLogprobs {
  TokenLogprob token;
  std::vector<TokenLogprob> top;
};

// Of the prompt, from its second token on.
struct PromptTokens {
  std::vector<TokenLogprobs> logprobs;
  int32_t prompt = 0;  // which one
};

struct Tokens {
  std::vector<TokenId> ids;
  std::vector<ExpertId> routes;         // [ids], or none of a dense model
  std::string text;                     // may be empty
  int32_t index = 0;                    // of the choice
  std::vector<TokenLogprobs> logprobs;  // [ids], where they were asked for
};

enum class EndReason { kLength, kStopToken, kStopString };

struct ChoiceFinished {
  int32_t index = 0;
  EndReason reason = EndReason::kLength;
  uint64_t seed = 0;
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt
};

struct Finished {
  EndReason reason = EndReason::kLength;
  std::string stop_string;  // the one that matched
  Usage usage;
};

// What a scheduler serves.
struct ModelCard {
  std::string name;
  std::string digest;
  int32_t context_tokens = 0;
  int32_t num_experts = 0;
  std::optional<ToolFormat> tool_format;  // nothing: its chat template has no tools
};
}  // namespace pregate::gateway
