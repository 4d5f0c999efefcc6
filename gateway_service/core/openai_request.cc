#include "gateway_service/core/openai_request.h"

#include <array>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/openai_prompt.h"
#include "gateway_service/core/response_format.h"
#include "gateway_service/core/tools.h"

namespace pregate::gateway::openai {
namespace {

using json = Json;

constexpr int32_t kCompletionTokens = 16;  // OpenAI's default of /v1/completions
constexpr float kTemperature = 1;          // and of both

struct Bounds {
  double min, max;
};
constexpr Bounds kTemperatures = {0, 2}, kShares = {0, 1}, kFactors = {1e-3, 1e3},
                 kPenalties = {-2, 2};

// A number of the sampling, within its bounds.
template <float SamplingParams::*kField, const Bounds& kBounds>
absl::Status ReadSampling(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(const double read, ReadNumber(name, value, kBounds.min, kBounds.max));
  out->sampling.*kField = static_cast<float>(read);
  return absl::OkStatus();
}

template <auto kField, int32_t kMin, int32_t kMax>
absl::Status ReadCount(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(const int64_t read, ReadInt(name, value, kMin, kMax));
  out->*kField = static_cast<int32_t>(read);
  return absl::OkStatus();
}

template <bool Generation::*kField>
absl::Status ReadSwitch(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(out->*kField, ReadBool(name, value));
  return absl::OkStatus();
}

// The same 64 bits, whether they are written with a sign or without.
absl::Status ReadSeed(absl::string_view name, const json& value, Generation* out) {
  if (value.is_number_unsigned()) {
    out->seed = value.get<uint64_t>();
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t read, ReadInt(name, value, std::numeric_limits<int64_t>::min(),
                                               std::numeric_limits<int64_t>::max()));
  out->seed = static_cast<uint64_t>(read);
  return absl::OkStatus();
}

// {"50256": -100}.
absl::Status ReadLogitBias(absl::string_view name, const json& value, Generation* out) {
  if (!value.is_object() || value.size() > static_cast<size_t>(kLogitBiasMax)) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object of at most ",
                                      kLogitBiasMax, " token ids"));
  }
  for (const auto& [id, bias] : value.items()) {
    LogitBias entry;
    if (!absl::SimpleAtoi(id, &entry.token) || entry.token < 0) {
      return Invalid(name, absl::StrCat("has ", Shown(id), ", which is no token id"));
    }
    ASSIGN_OR_RETURN(const double read,
                     ReadNumber(absl::StrCat(name, "[", id, "]"), bias, -100, 100));
    entry.bias = static_cast<float>(read);
    out->logit_bias.push_back(entry);
  }
  return absl::OkStatus();
}

// Of a chat: whether; how many others is top_logprobs.
absl::Status ReadChatLogprobs(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(const bool wanted, ReadBool(name, value));
  if (wanted) out->logprobs = out->logprobs.value_or(0);
  return absl::OkStatus();
}

// Of a completion, and top_logprobs of a chat.
absl::Status ReadLogprobs(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(const int64_t read, ReadInt(name, value, 0, kLogprobsMax));
  out->logprobs = static_cast<int32_t>(read);
  return absl::OkStatus();
}

absl::Status ReadStopTokens(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(out->stop_tokens, ReadIds(name, value));
  return absl::OkStatus();
}

absl::Status ReadStreamOptions(absl::string_view name, const json& value, Generation* out) {
  if (!value.is_object())
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  constexpr RequestField kFields[] = {
      {"include_usage", Treatment::kHonoured,
       [](absl::string_view field, const json& given, Generation* to) -> absl::Status {
         ASSIGN_OR_RETURN(to->include_usage,
                          ReadBool(absl::StrCat("stream_options.", field), given));
         return absl::OkStatus();
       }},
      {"continuous_usage_stats", Treatment::kHonoured,
       [](absl::string_view field, const json& given, Generation* to) -> absl::Status {
         ASSIGN_OR_RETURN(to->continuous_usage,
                          ReadBool(absl::StrCat("stream_options.", field), given));
         return absl::OkStatus();
       }},
      {"include_obfuscation", Treatment::kIgnored, nullptr},
  };
  return ReadFields(value, kFields, out);
}

absl::Status OnlyTextModality(absl::string_view name, const json& value, Generation*) {
  if (value.is_array() && value.size() == 1 && value[0] == "text") return absl::OkStatus();
  return Unsupported(name, absl::StrCat("is ", Shown(value), R"(: only ["text"] is supported)"));
}

// Without tools it says nothing.
absl::Status OnlyNoTool(absl::string_view name, const json& value, Generation*) {
  if (value == "none" || value == "auto") return absl::OkStatus();
  return Unsupported(name, absl::StrCat("is ", Shown(value), ": tool_choice is supported"));
}

using enum Treatment;

constexpr RequestField kShared[] = {
    {"model", kHonoured, ReadModelName},
    {"stream", kHonoured, ReadStream},
    {"stream_options", kHonoured, ReadStreamOptions},
    {"max_tokens", kHonoured, ReadMaxTokens},
    {"temperature", kHonoured, ReadSampling<&SamplingParams::temperature, kTemperatures>},
    {"top_p", kHonoured, ReadTopP},
    {"seed", kHonoured, ReadSeed},
    {"stop", kHonoured, ReadStopStrings},
    {"top_k", kHonoured, ReadTopK},
    {"min_p", kHonoured, ReadSampling<&SamplingParams::min_p, kShares>},
    {"repetition_penalty", kHonoured, ReadSampling<&SamplingParams::repetition_penalty, kFactors>},
    {"stop_token_ids", kHonoured, ReadStopTokens},
    {"ignore_eos", kHonoured, ReadSwitch<&Generation::ignore_eos>},
    {"pregate", kHonoured, ReadPregate},
    {"user", kIgnored, nullptr},
    {"frequency_penalty", kHonoured, ReadSampling<&SamplingParams::frequency_penalty, kPenalties>},
    {"presence_penalty", kHonoured, ReadSampling<&SamplingParams::presence_penalty, kPenalties>},
    {"logit_bias", kHonoured, ReadLogitBias},
    {"n", kHonoured, ReadCount<&Generation::n, 1, kChoicesMax>},
    {"min_tokens", kHonoured, ReadCount<&Generation::min_tokens, 0, kContextTokensMax>},
    {"priority", kHonoured, ReadCount<&Generation::priority, -kPriorityMax, kPriorityMax>},
    {"response_format", kHonoured, ReadResponseFormat},
    {"structured_outputs", kHonoured, ReadStructuredOutputs},
};

constexpr RequestField kChatOnly[] = {
    {"messages", kHonoured, ReadMessages},
    {"max_completion_tokens", kHonoured, ReadMaxTokens},
    {"metadata", kIgnored, nullptr},
    {"parallel_tool_calls", kHonoured, ReadParallelToolCalls},
    {"prediction", kIgnored, nullptr},
    {"prompt_cache_key", kIgnored, nullptr},
    {"prompt_cache_options", kIgnored, nullptr},
    {"prompt_cache_retention", kIgnored, nullptr},
    {"safety_identifier", kIgnored, nullptr},
    {"service_tier", kIgnored, nullptr},
    {"store", kIgnored, nullptr},
    {"audio", kRefused, OnlyNull},
    {"function_call", kRefused, OnlyNoTool},
    {"functions", kRefused, OnlyEmpty},
    {"logprobs", kHonoured, ReadChatLogprobs},
    {"modalities", kRefused, OnlyTextModality},
    {"moderation", kRefused, OnlyNull},
    {"reasoning_effort", kRefused, OnlyNull},
    {"tool_choice", kHonoured, ReadToolChoice},
    {"tools", kHonoured, ReadTools},
    {"top_logprobs", kHonoured, ReadLogprobs},
    {"verbosity", kRefused, OnlyNull},
    {"web_search_options", kRefused, OnlyNull},
};

constexpr RequestField kCompletionOnly[] = {
    {"prompt", kHonoured, ReadPrompt},
    {"best_of", kHonoured, ReadCount<&Generation::best_of, 1, kChoicesMax>},
    {"echo", kHonoured, ReadSwitch<&Generation::echo>},
    {"logprobs", kHonoured, ReadLogprobs},
    {"suffix", kRefused, OnlyEmpty},
};

template <size_t kLeft, size_t kRight>
constexpr std::array<RequestField, kLeft + kRight> Join(const RequestField (&left)[kLeft],
                                                        const RequestField (&right)[kRight]) {
  std::array<RequestField, kLeft + kRight> all = {};
  for (size_t i = 0; i < kLeft; ++i) all[i] = left[i];
  for (size_t i = 0; i < kRight; ++i) all[kLeft + i] = right[i];
  return all;
}
constexpr auto kChatFields = Join(kShared, kChatOnly);
constexpr auto kCompletionFields = Join(kShared, kCompletionOnly);

absl::StatusOr<Generation> Read(const json& body, absl::Span<const RequestField> fields,
                                const char* prompt) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body is no JSON object");
  Generation out;
  out.sampling.temperature = kTemperature;
  RETURN_IF_ERROR(ReadFields(body, fields, &out));
  if (!body.contains(prompt) || body[prompt].is_null()) return Invalid(prompt, "is missing");
  if (!out.stream && body.contains("stream_options") && !body["stream_options"].is_null()) {
    return Invalid("stream_options", "goes with \"stream\": true only");
  }
  return out;
}

}  // namespace

absl::StatusOr<Generation> ReadChatRequest(const json& body) {
  ASSIGN_OR_RETURN(Generation out, Read(body, kChatFields, "messages"));
  const bool wanted = body.value("logprobs", json()) == true;
  if (!wanted && out.logprobs.value_or(0) > 0) {
    return Invalid("top_logprobs", "goes with \"logprobs\": true only");
  }
  if (!wanted) out.logprobs.reset();
  RETURN_IF_ERROR(CheckTools(&out));
  // The text of a call is of no such format. With structured_outputs a caller says the whole text.
  const json& format = body.contains("response_format") ? body["response_format"] : json();
  if (!out.tools.empty() && out.tool_use == ToolUse::kAuto && format.is_object() &&
      !std::holds_alternative<std::monostate>(out.constraint)) {
    return Unsupported("response_format", "goes with tools only where tool_choice is none");
  }
  return out;
}

absl::StatusOr<Generation> ReadCompletionRequest(const json& body) {
  ASSIGN_OR_RETURN(Generation out, Read(body, kCompletionFields, "prompt"));
  if (!out.max_tokens) out.max_tokens = kCompletionTokens;
  if (out.best_of != 0 && out.best_of < out.n) {
    return Invalid("best_of", absl::StrCat("is ", out.best_of, ", below n, which is ", out.n));
  }
  if (out.echo) out.prompt_logprobs = out.logprobs;
  if (out.return_routes && !out.more_prompts.empty()) {
    return Unsupported("pregate.return_routes", "goes with one prompt only");
  }
  return out;
}

absl::Span<const RequestField> ChatFields() { return kChatFields; }
absl::Span<const RequestField> CompletionFields() { return kCompletionFields; }

}  // namespace pregate::gateway::openai
