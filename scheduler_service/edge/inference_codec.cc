#include "scheduler_service/edge/inference_codec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/grammar_limits.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "common/model/tokenizer/conversation.h"
#include "common/rpc/decode.h"
#include "common/rpc/sampling_codec.h"
#include "common/rpc/status.h"

namespace pregate {
namespace {

// Several generations are the edge's: the engine sees one at a time.
absl::Status CheckChoices(const v1::GenerateRequest& in) {
  RETURN_IF_ERROR(CheckBetween("n", in.n(), 0, kChoicesMax));
  RETURN_IF_ERROR(CheckBetween("best_of", in.best_of(), 0, kChoicesMax));
  const int32_t n = std::max(in.n(), 1);
  if (in.best_of() != 0 && in.best_of() < n) {
    return BadField("best_of", absl::StrCat("is ", in.best_of(), ", below n, which is ", n));
  }
  if (in.has_resume() && std::max(n, in.best_of()) > 1) {
    return BadField("resume",
                    "is for one generation: ask for each choice by itself, with its seed");
  }
  return absl::OkStatus();
}

absl::Status CheckNames(const v1::GenerateRequest& in, const ServedModel& model) {
  RETURN_IF_ERROR(CheckBytes("request_id", in.request_id(), kIdBytesMax));
  RETURN_IF_ERROR(CheckBytes("tenant", in.tenant(), kIdBytesMax));
  if (in.model().empty() || in.model() == model.name) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("model '", Clip(in.model(), kIdBytesMax),
                                          "' is not served, '", model.name, "' is"));
}

// Whose counts admission would see only after copies.
absl::Status CheckCounts(const v1::GenerateRequest& in) {
  RETURN_IF_ERROR(CheckCount("stop_strings", in.stop_strings_size(), kStopStringsMax));
  RETURN_IF_ERROR(CheckCount("stop_token_ids", in.stop_token_ids_size(), kStopTokensMax));
  RETURN_IF_ERROR(CheckCount("logit_bias", static_cast<int64_t>(in.sampling().logit_bias().size()),
                             kLogitBiasMax));
  RETURN_IF_ERROR(CheckCount("resume.tokens", in.resume().tokens_size(), kContextTokensMax));
  RETURN_IF_ERROR(CheckCount("resume.routes", in.resume().routes_size(), kContextTokensMax));
  return CheckCount("tokens", in.tokens().ids_size(), kContextTokensMax);
}

absl::Status CheckChat(const v1::Chat& chat) {
  if (chat.messages().empty()) return BadField("chat.messages", "is empty");
  RETURN_IF_ERROR(CheckCount("chat.messages", chat.messages_size(), kChatMessagesMax));
  RETURN_IF_ERROR(CheckCount("chat.tools", chat.tools_size(), kToolsMax));
  int64_t bytes = 0;
  for (const std::string& tool : chat.tools()) bytes += tool.size();
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    const std::string& role = message.role();
    if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
      return BadField(
          absl::StrCat("chat.messages[", i, "].role"),
          absl::StrCat("is '", Clip(role, kIdBytesMax), "', not system, user, assistant or tool"));
    }
    RETURN_IF_ERROR(CheckCount(absl::StrCat("chat.messages[", i, "].tool_calls"),
                               message.tool_calls_size(), kToolsMax));
    bytes += message.content().size() + message.name().size() + message.tool_call_id().size();
    for (const v1::ToolCall& call : message.tool_calls()) {
      bytes += call.id().size() + call.name().size() + call.arguments().size();
    }
  }
  if (bytes <= kPromptBytesMax) return absl::OkStatus();
  return BadField("chat", absl::StrCat("has ", bytes, " bytes, at most ", kPromptBytesMax));
}

bool UsesTools(const v1::Chat& chat) {
  return !chat.tools().empty() ||
         std::any_of(chat.messages().begin(), chat.messages().end(), [](const auto& message) {
           return message.role() == "tool" || !message.tool_calls().empty();
         });
}

absl::StatusOr<OrderedJson> ParseObject(const std::string& text, const std::string& where) {
  ASSIGN_OR_RETURN(OrderedJson object, ParseOrderedJson(text, where));
  if (!object.is_object()) return BadField(where, "is no JSON object");
  return object;
}

// As templates take it.
absl::StatusOr<OrderedJson> DecodeMessage(const v1::ChatMessage& in, const std::string& where) {
  OrderedJson message = {{"role", in.role()}, {"content", in.content()}};
  for (int i = 0; i < in.tool_calls_size(); ++i) {
    const v1::ToolCall& call = in.tool_calls(i);
    ASSIGN_OR_RETURN(
        OrderedJson arguments,
        ParseObject(call.arguments(), absl::StrCat(where, ".tool_calls[", i, "].arguments")));
    message["tool_calls"].push_back(
        {{"id", call.id()},
         {"type", "function"},
         {"function", {{"name", call.name()}, {"arguments", std::move(arguments)}}}});
  }
  if (!in.tool_call_id().empty()) message["tool_call_id"] = in.tool_call_id();
  if (!in.name().empty()) message["name"] = in.name();
  return message;
}

absl::StatusOr<std::vector<TokenId>> TokenizeChat(const v1::Chat& chat, const ServedModel& model) {
  RETURN_IF_ERROR(CheckChat(chat));
  if (!UsesTools(chat)) {
    std::vector<ChatMessage> messages;
    for (const v1::ChatMessage& message : chat.messages()) {
      messages.push_back({.role = message.role(), .content = message.content()});
    }
    return model.tokenizer->ApplyChatTemplate(messages, /*add_generation_prompt=*/true);
  }
  if (!model.tool_format) {
    return absl::UnimplementedError(
        absl::StrCat("chat.tools: the chat template of model '", model.name,
                     "' has no tools, or a form of calls that is not known"));
  }
  Conversation conversation = {.now = absl::Now()};
  for (int i = 0; i < chat.messages_size(); ++i) {
    ASSIGN_OR_RETURN(OrderedJson message,
                     DecodeMessage(chat.messages(i), absl::StrCat("chat.messages[", i, "]")));
    conversation.messages.push_back(std::move(message));
  }
  for (int i = 0; i < chat.tools_size(); ++i) {
    ASSIGN_OR_RETURN(OrderedJson tool,
                     ParseObject(chat.tools(i), absl::StrCat("chat.tools[", i, "]")));
    conversation.tools.push_back(std::move(tool));
  }
  return model.tokenizer->ApplyConversation(conversation);
}

absl::StatusOr<std::vector<TokenId>> DecodePrompt(const v1::GenerateRequest& in,
                                                  const ServedModel& model) {
  switch (in.input_case()) {
    case v1::GenerateRequest::kText:
      if (in.text().empty()) return BadField("text", "is empty");
      RETURN_IF_ERROR(CheckBytes("text", in.text(), kPromptBytesMax));
      return model.tokenizer->EncodePrompt(in.text());
    case v1::GenerateRequest::kTokens:
      if (in.tokens().ids().empty()) return BadField("tokens", "is empty");
      return ToVector(in.tokens().ids());
    case v1::GenerateRequest::kChat:
      return TokenizeChat(in.chat(), model);
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return BadField("input", "is not set: give text, tokens or chat");
}

absl::Status CheckResume(const v1::Resume& resume, const WorkerFacts& facts) {
  if (facts.model_digest.empty()) return absl::UnavailableError("no worker has attached yet");
  if (resume.model_digest() != facts.model_digest) {
    return absl::FailedPreconditionError(absl::StrCat("resume.model_digest is '",
                                                      Clip(resume.model_digest(), kIdBytesMax),
                                                      "', served is '", facts.model_digest, "'"));
  }
  if (resume.numerics_id() != facts.numerics_id) {
    return absl::FailedPreconditionError(absl::StrCat("resume.numerics_id is '",
                                                      Clip(resume.numerics_id(), kIdBytesMax),
                                                      "', served is '", facts.numerics_id, "'"));
  }
  return absl::OkStatus();
}

void Encode(const TokenLogprob& entry, const Tokenizer& tokenizer, v1::TokenProbability* out) {
  out->set_id(entry.token);
  out->set_logprob(entry.logprob);
  out->set_bytes(std::string(tokenizer.TokenBytes(entry.token)));
}

// The token's own comes first.
void Encode(absl::Span<const TokenLogprob> logprobs, const Tokenizer& tokenizer,
            v1::TokenProbabilities* out) {
  if (logprobs.empty()) return;
  Encode(logprobs[0], tokenizer, out->mutable_token());
  for (const TokenLogprob& entry : logprobs.subspan(1)) Encode(entry, tokenizer, out->add_top());
}

v1::FinishReason EncodeReason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kStopToken:
      return v1::FINISH_REASON_STOP_TOKEN;
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP_STRING;
    default:
      return v1::FINISH_REASON_UNSPECIFIED;  // failures have a status instead
  }
}

}  // namespace

absl::StatusOr<GenerateRequest> DecodeGenerateRequest(const v1::GenerateRequest& in,
                                                      const ServedModel& model,
                                                      const WorkerFacts& facts,
                                                      absl::Time deadline) {
  RETURN_IF_ERROR(CheckNames(in, model));
  RETURN_IF_ERROR(CheckChoices(in));
  RETURN_IF_ERROR(CheckCounts(in));
  GenerateRequest request;
  ASSIGN_OR_RETURN(request.prompt, DecodePrompt(in, model));
  request.request_id = in.request_id();
  request.tenant = in.tenant();
  request.sampling = DecodeSampling(in.sampling());
  request.logit_bias = DecodeLogitBias(in.sampling());
  if (in.sampling().has_seed()) request.seed = in.sampling().seed();
  if (in.has_max_tokens()) request.max_tokens = in.max_tokens();
  request.min_tokens = in.min_tokens();
  if (in.has_logprobs()) request.logprobs = in.logprobs();
  if (in.has_prompt_logprobs()) request.prompt_logprobs = in.prompt_logprobs();
  request.n = std::max(in.n(), 1);
  request.best_of = in.best_of();
  request.priority = in.priority();
  request.stop_strings = ToVector(in.stop_strings());
  request.stop_tokens = ToVector(in.stop_token_ids());
  request.ignore_eos = in.ignore_eos();
  request.no_drafts = in.no_drafts();
  if (!in.chat().tools().empty() && model.tool_format && model.tool_format->begin_token) {
    request.shown_token = {*model.tool_format->begin_token, model.tool_format->begin};
  }
  request.deadline = deadline;
  if (in.has_resume()) {
    RETURN_IF_ERROR(CheckResume(in.resume(), facts));
    request.resume_tokens = ToVector(in.resume().tokens());
    request.resume_routes = ToVector(in.resume().routes());
    request.seed = in.resume().seed();
  }
  return request;
}

absl::StatusOr<std::optional<Constraint>> DecodeConstraint(const v1::GenerateRequest& in,
                                                           const ServedModel& model) {
  Constraint constraint;
  switch (in.constraint_case()) {
    case v1::GenerateRequest::CONSTRAINT_NOT_SET:
      return std::nullopt;
    case v1::GenerateRequest::kJsonObject:
      if (!in.json_object()) return BadField("json_object", "is false: leave it out");
      constraint = JsonObjectConstraint{};
      break;
    case v1::GenerateRequest::kJsonSchema:
      constraint = JsonSchemaConstraint{in.json_schema()};
      break;
    case v1::GenerateRequest::kRegex:
      constraint = RegexConstraint{in.regex()};
      break;
    case v1::GenerateRequest::kChoice:
      RETURN_IF_ERROR(CheckCount("choice.texts", in.choice().texts_size(), kConstraintChoicesMax));
      constraint = ChoiceConstraint{ToVector(in.choice().texts())};
      break;
    case v1::GenerateRequest::kMarkedJson: {
      const v1::MarkedJson& marked = in.marked_json();
      const auto special = model.tokenizer->SpecialId(marked.begin());
      if (special && model.tokenizer->TokenBytes(*special).empty()) {
        return absl::UnimplementedError(
            absl::StrCat("marked_json.begin: '", marked.begin(),
                         "' is a special token of this model, which a constrained text has not"));
      }
      constraint = MarkedJsonConstraint{.begin = marked.begin(),
                                        .end = marked.end(),
                                        .schema = marked.json_schema(),
                                        .once = marked.once()};
      break;
    }
  }
  // Each would end the text where it is not complete, or go on where it is.
  constexpr absl::string_view kBeside = "cannot stand beside a constraint of the text";
  if (in.stop_strings_size() > 0) return BadField("stop_strings", kBeside);
  if (in.stop_token_ids_size() > 0) return BadField("stop_token_ids", kBeside);
  if (in.ignore_eos()) return BadField("ignore_eos", kBeside);
  return constraint;
}

absl::StatusOr<std::vector<TokenId>> DecodeTokenizeRequest(const v1::TokenizeRequest& in,
                                                           const ServedModel& model) {
  if (in.has_chat()) return TokenizeChat(in.chat(), model);
  if (!in.has_text()) return BadField("input", "is not set: give text or chat");
  RETURN_IF_ERROR(CheckBytes("text", in.text(), kPromptBytesMax));
  return model.tokenizer->EncodePrompt(in.text());
}

absl::StatusOr<std::string> DecodeDetokenizeRequest(const v1::DetokenizeRequest& in,
                                                    const ServedModel& model) {
  RETURN_IF_ERROR(CheckCount("ids", in.ids_size(), kContextTokensMax));
  // The model may have more ids than its tokenizer; those have no text.
  const int32_t size = std::max(model.tokenizer->vocab_size(), model.spec.vocab_size);
  for (int i = 0; i < in.ids_size(); ++i) {
    RETURN_IF_ERROR(CheckBetween(absl::StrCat("ids[", i, "]"), in.ids(i), 0, size - 1));
  }
  return model.tokenizer->Decode(in.ids());
}

v1::GenerateResponse EncodeStart(const StartInfo& info, const std::string& request_id,
                                 bool return_routes) {
  v1::GenerateResponse response;
  v1::GenerateStart* start = response.mutable_start();
  start->set_request_id(request_id);
  start->set_seed(info.seed);
  start->set_model_digest(info.model_digest);
  start->set_numerics_id(info.numerics_id);
  start->set_prompt_tokens(info.prompt_tokens);
  if (return_routes) {
    start->mutable_prompt_routes()->Add(info.prompt_routes.begin(), info.prompt_routes.end());
  }
  return response;
}

v1::GenerateResponse EncodePrompt(const PromptOut& out, const Tokenizer& tokenizer) {
  v1::GenerateResponse response;
  v1::GeneratePrompt* prompt = response.mutable_prompt();
  prompt->set_position(out.position);
  for (const auto& logprobs : out.logprobs) Encode(logprobs, tokenizer, prompt->add_logprobs());
  return response;
}

v1::GenerateResponse EncodeTokens(const TokensOut& out, bool has_routes,
                                  const Tokenizer& tokenizer) {
  v1::GenerateResponse response;
  v1::GenerateTokens* tokens = response.mutable_tokens();
  tokens->mutable_ids()->Add(out.tokens.begin(), out.tokens.end());
  tokens->set_text(out.text);
  tokens->set_index(out.index);
  if (has_routes) tokens->mutable_routes()->Add(out.routes.begin(), out.routes.end());
  for (const auto& logprobs : out.logprobs) {
    Encode(logprobs, tokenizer, tokens->add_logprobs());
  }
  return response;
}

v1::GenerateResponse EncodeChoiceDone(const ChoiceDone& info) {
  v1::GenerateResponse response;
  v1::GenerateChoiceDone* done = response.mutable_choice_done();
  done->set_index(info.index);
  done->set_finish_reason(EncodeReason(info.reason));
  done->set_stop_string(info.stop_string);
  done->set_generated_tokens(info.generated_tokens);
  done->set_seed(info.seed);
  return response;
}

v1::GenerateResponse EncodeDone(const DoneInfo& info) {
  v1::GenerateResponse response;
  v1::GenerateDone* done = response.mutable_done();
  done->set_finish_reason(EncodeReason(info.reason));
  done->set_stop_string(info.stop_string);
  v1::Usage* usage = done->mutable_usage();
  usage->set_prompt_tokens(info.prompt_tokens);
  usage->set_generated_tokens(info.generated_tokens);
  usage->set_cached_tokens(info.cached_tokens);
  usage->set_preemptions(info.preemptions);
  usage->set_draft_tokens(info.draft_tokens);
  usage->set_accepted_tokens(info.accepted_tokens);
  v1::Timings* timings = done->mutable_timings();
  timings->set_queue_seconds(absl::ToDoubleSeconds(info.queue_time));
  timings->set_route_seconds(absl::ToDoubleSeconds(info.route_time));
  timings->set_ttft_seconds(absl::ToDoubleSeconds(info.ttft));
  timings->set_total_seconds(absl::ToDoubleSeconds(info.total));
  return response;
}

v1::GetModelInfoResponse EncodeModelInfo(const ServedModel& model, const WorkerFacts& facts) {
  v1::GetModelInfoResponse info;
  info.set_model(model.name);
  info.set_model_digest(model.digest);
  info.set_numerics_id(facts.numerics_id);
  info.set_vocab_size(model.spec.vocab_size);
  info.set_context_tokens(facts.context_tokens > 0 ? facts.context_tokens
                                                   : model.spec.max_position);
  info.set_num_layers(model.spec.num_layers);
  info.set_num_experts(model.spec.num_experts);
  const std::vector<TokenId> stops = model.tokenizer->StopTokens();
  info.mutable_stop_token_ids()->Add(stops.begin(), stops.end());
  if (const auto& format = model.tool_format) {
    info.mutable_tool_format()->set_name(format->name);
    info.mutable_tool_format()->set_begin(format->begin);
    info.mutable_tool_format()->set_end(format->end);
    info.mutable_tool_format()->set_is_list(format->is_list);
  }
  return info;
}

grpc::Status EncodeFailure(const absl::Status& status, absl::Duration retry_after) {
  const grpc::Status failure = ToGrpcStatus(status);
  if (retry_after <= absl::ZeroDuration()) return failure;
  v1::RetryInfo retry;
  const int64_t nanos = absl::ToInt64Nanoseconds(retry_after);
  retry.mutable_retry_delay()->set_seconds(nanos / 1'000'000'000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  v1::ErrorStatus details;
  details.set_code(failure.error_code());
  details.set_message(failure.error_message());
  google::protobuf::Any* any = details.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any->set_value(retry.SerializeAsString());
  return grpc::Status(failure.error_code(), failure.error_message(), details.SerializeAsString());
}

}  // namespace pregate
