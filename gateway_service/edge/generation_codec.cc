#include "gateway_service/edge/generation_codec.h"

#include <variant>

#include "common/rpc/decode.h"
#include "common/rpc/sampling_codec.h"

namespace pregate::gateway {
namespace {

// Each kind of prompt.
struct PromptEncoder {
  v1::GenerateRequest* out;
  void operator()(const std::string& text) const { out->set_text(text); }
  void operator()(const std::vector<TokenId>& ids) const {
    out->mutable_tokens()->mutable_ids()->Add(ids.begin(), ids.end());
  }
  void operator()(const Conversation& messages) const {
    v1::Chat* const chat = out->mutable_chat();
    for (const Message& m : messages) {
      v1::ChatMessage* const message = chat->add_messages();
      message->set_role(m.role);
      message->set_content(m.content);
      message->set_tool_call_id(m.tool_call_id);
      message->set_name(m.name);
      for (const ToolCall& call : m.tool_calls) {
        v1::ToolCall* const to = message->add_tool_calls();
        to->set_id(call.id);
        to->set_name(call.name);
        to->set_arguments(call.arguments);
      }
    }
  }
};

// Each kind of constraint.
struct ConstraintEncoder {
  v1::GenerateRequest* out;
  void operator()(std::monostate) const {}
  void operator()(const AnyJsonObject&) const { out->set_json_object(true); }
  void operator()(const JsonSchema& schema) const { out->set_json_schema(schema.text); }
  void operator()(const Regex& regex) const { out->set_regex(regex.text); }
  void operator()(const TextChoice& choice) const {
    out->mutable_choice()->mutable_texts()->Add(choice.texts.begin(), choice.texts.end());
  }
  void operator()(const MarkedJson& marked) const {
    v1::MarkedJson* const to = out->mutable_marked_json();
    to->set_begin(marked.begin);
    to->set_end(marked.end);
    to->set_json_schema(marked.schema.text);
    to->set_once(marked.once);
  }
};

EndReason DecodeReason(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP_TOKEN:
      return EndReason::kStopToken;
    case v1::FINISH_REASON_STOP_STRING:
      return EndReason::kStopString;
    default:
      return EndReason::kLength;
  }
}

TokenLogprob DecodeLogprob(const v1::TokenProbability& in) {
  return {.id = in.id(), .logprob = in.logprob(), .bytes = in.bytes()};
}

template <typename Repeated>
std::vector<TokenLogprobs> DecodeLogprobs(const Repeated& in) {
  std::vector<TokenLogprobs> out;
  for (const v1::TokenProbabilities& token : in) {
    out.push_back({.token = DecodeLogprob(token.token())});
    for (const v1::TokenProbability& other : token.top()) {
      out.back().top.push_back(DecodeLogprob(other));
    }
  }
  return out;
}

}  // namespace

v1::GenerateRequest EncodeGeneration(const Generation& generation, int32_t prompt) {
  v1::GenerateRequest out;
  out.set_model(generation.model);
  std::visit(PromptEncoder{&out},
             prompt == 0 ? generation.prompt : generation.more_prompts[prompt - 1]);
  for (const Tool& tool : generation.tools) out.mutable_chat()->add_tools(tool.definition);
  EncodeSampling(generation.sampling, out.mutable_sampling());
  EncodeLogitBias(generation.logit_bias, out.mutable_sampling());
  if (generation.seed) out.mutable_sampling()->set_seed(*generation.seed);
  if (generation.max_tokens) out.set_max_tokens(*generation.max_tokens);
  out.set_min_tokens(generation.min_tokens);
  out.set_priority(generation.priority.value_or(0));
  out.set_n(generation.n);
  out.set_best_of(generation.best_of);
  if (generation.logprobs) out.set_logprobs(*generation.logprobs);
  if (generation.prompt_logprobs) out.set_prompt_logprobs(*generation.prompt_logprobs);
  out.set_echo(generation.echo);
  out.mutable_stop_strings()->Add(generation.stop_strings.begin(), generation.stop_strings.end());
  out.mutable_stop_token_ids()->Add(generation.stop_tokens.begin(), generation.stop_tokens.end());
  out.set_ignore_eos(generation.ignore_eos);
  std::visit(ConstraintEncoder{&out}, generation.constraint);
  out.set_no_drafts(generation.no_drafts);
  out.set_return_routes(generation.return_routes);
  return out;
}

Started DecodeStart(const v1::GenerateStart& in) {
  return {.seed = in.seed(),
          .model_digest = in.model_digest(),
          .numerics_id = in.numerics_id(),
          .prompt_tokens = in.prompt_tokens(),
          .prompt_routes = ToVector(in.prompt_routes()),
          .prompt_text = in.prompt_text()};
}

PromptTokens DecodePrompt(const v1::GeneratePrompt& in) {
  return {.logprobs = DecodeLogprobs(in.logprobs())};
}

Tokens DecodeTokens(const v1::GenerateTokens& in) {
  return {.ids = ToVector(in.ids()),
          .routes = ToVector(in.routes()),
          .text = in.text(),
          .index = in.index(),
          .logprobs = DecodeLogprobs(in.logprobs())};
}

ChoiceFinished DecodeChoiceDone(const v1::GenerateChoiceDone& in) {
  return {.index = in.index(), .reason = DecodeReason(in.finish_reason()), .seed = in.seed()};
}

Finished DecodeDone(const v1::GenerateDone& in) {
  return {.reason = DecodeReason(in.finish_reason()),
          .stop_string = in.stop_string(),
          .usage = {.prompt_tokens = in.usage().prompt_tokens(),
                    .generated_tokens = in.usage().generated_tokens(),
                    .cached_tokens = in.usage().cached_tokens()}};
}

}  // namespace pregate::gateway
