// What a client of the HTTP API sends: a body of JSON, behind a letter for its kind.
#include "gateway_service/core/openai_request.h"

#include "common/base/json.h"
#include "common/base/status.h"
#include "gateway_service/core/anthropic_request.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/tools.h"
#include "gateway_service/edge/generation_codec.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::openai_request {
namespace {

absl::StatusOr<gateway::Generation> Read(std::string_view input) {
  if (input.empty()) return absl::InvalidArgumentError("the body is empty");
  ASSIGN_OR_RETURN(const nlohmann::ordered_json body,
                   ParseOrderedJson(input.substr(1), "the body"));
  if (input[0] == 'm') return gateway::anthropic::ReadRequest(body);
  return input[0] == 't' ? gateway::openai::ReadCompletionRequest(body)
                         : gateway::openai::ReadChatRequest(body);
}

// A refusal has words and a status of the table, and can be written in both forms.
void CheckRefusal(const absl::Status& status) {
  const gateway::ApiError error = gateway::ToApiError(status);
  PREGATE_CHECK(error.http_status == 400 && !error.message.empty(), "for ", status.ToString());
  for (const auto dialect : {gateway::Dialect::kOpenAi, gateway::Dialect::kAnthropic}) {
    PREGATE_CHECK(ParseJson(gateway::ErrorBody(error, dialect), "an error").ok());
  }
}

bool Run(std::string_view input) {
  auto read = Read(input);
  if (!read.ok()) {
    CheckRefusal(read.status());
    return false;
  }
  const gateway::ToolFormat format = {.name = "hermes", .begin = "<tool_call>"};
  for (const auto* may : {&format, static_cast<const gateway::ToolFormat*>(nullptr)}) {
    gateway::Generation generation = *read;
    const absl::Status tools = gateway::ApplyTools(may, "model", &generation);
    if (!tools.ok()) CheckRefusal(tools);
    for (int32_t i = 0; tools.ok() && i < generation.num_prompts(); ++i) {
      gateway::EncodeGeneration(generation, i).SerializeAsString();
    }
  }
  return true;
}

std::vector<std::string> Seeds() {
  return {
      R"(c{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"x"}]}],"stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"top_p":0.9,"seed":-1,"stop":["a"],"logprobs":true,"top_logprobs":3,"n":2,"logit_bias":{"5":-100},"max_completion_tokens":9,"response_format":{"type":"text"},"pregate":{"return_routes":true}})",
      R"(t{"prompt":"Once","max_tokens":3,"echo":true,"logprobs":2,"best_of":2,"user":"u","stop_token_ids":[1],"frequency_penalty":1})",
      R"(t{"prompt":[[1,2,3]]})",
      R"(t{"prompt":["a",[1,2],"b"],"n":2,"stream":true})",
      R"(c{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","tool_call_id":"a","content":"y"}],"tools":[{"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object","properties":{"x":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"integer"}}}}},{"type":"function","function":{"name":"g"}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false})",
      R"(c{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"g"}}],"tool_choice":"required"})",
      R"(m{"max_tokens":4,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"text","text":"t"},{"type":"tool_use","id":"a","name":"f","input":{"x":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"y"}],"is_error":true}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}})",
      R"(m{"model":"m","max_tokens":4,"system":"s","messages":[{"role":"user","content":"x"}],"stop_sequences":["\n"],"thinking":{"type":"disabled"}})"};
}

std::string Mutate(std::string_view input, std::mt19937_64& random) {
  if (input.empty()) return "";
  const std::string body = MutateJson(input.substr(1), random);
  return body.empty() ? "" : std::string(1, "ctm"[random() % 3]) + body;
}

const Registration registration(
    {.name = "openai_request", .seeds = Seeds, .run = Run, .mutate = Mutate, .bytes_max = 8 << 10});

}  // namespace
}  // namespace pregate::fuzz::openai_request
