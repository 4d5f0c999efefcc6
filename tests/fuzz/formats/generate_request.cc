// What a client of the API sends.
#include "scheduler_service/edge/inference_codec.h"
#include "scheduler_service/edge/testing/byte_model.h"
#include "tests/fuzz/proto_format.h"

namespace pregate::fuzz::inference {
namespace {

const WorkerFacts& Facts() {
  static const auto* facts =
      new WorkerFacts{.model_digest = "digest-1", .numerics_id = "avx2", .context_tokens = 128};
  return *facts;
}

const ServedModel& Model() {
  static const auto* model = new ServedModel(testing::MakeByteModel());
  return *model;
}

v1::Chat ShortChat() {
  v1::Chat chat;
  for (const char* role : {"system", "user"}) {
    v1::ChatMessage* message = chat.add_messages();
    message->set_role(role);
    message->set_content("Hello");
  }
  return chat;
}

std::vector<v1::GenerateRequest> Requests() {
  v1::GenerateRequest text;
  text.set_request_id("request-1");
  text.set_tenant("tenant");
  text.set_text("Once upon a time");
  text.mutable_sampling()->set_temperature(0.7f);
  text.mutable_sampling()->set_top_p(0.9f);
  text.mutable_sampling()->set_seed(7);
  text.mutable_sampling()->set_frequency_penalty(0.5f);
  text.mutable_sampling()->set_presence_penalty(-0.5f);
  (*text.mutable_sampling()->mutable_logit_bias())[3] = -100;
  text.set_min_tokens(2);
  text.set_logprobs(3);
  text.set_max_tokens(16);
  text.add_stop_strings("\n\n");
  text.add_stop_token_ids(10);
  text.set_return_routes(true);
  v1::GenerateRequest resumed;
  for (const int id : {72, 105}) resumed.mutable_tokens()->add_ids(id);
  resumed.mutable_resume()->add_tokens(5);
  resumed.mutable_resume()->add_routes(2);
  resumed.mutable_resume()->set_model_digest("digest-1");
  resumed.mutable_resume()->set_numerics_id("avx2");
  resumed.mutable_resume()->set_seed(9);
  v1::GenerateRequest chat;
  *chat.mutable_chat() = ShortChat();
  chat.set_ignore_eos(true);
  v1::GenerateRequest constrained;
  constrained.set_text("Once");
  constrained.mutable_choice()->add_texts("yes");
  return {text, resumed, chat, constrained};
}

std::vector<v1::TokenizeRequest> Texts() {
  std::vector<v1::TokenizeRequest> requests(2);
  requests[0].set_text("Hello");
  *requests[1].mutable_chat() = ShortChat();
  return requests;
}

std::vector<v1::DetokenizeRequest> Ids() {
  v1::DetokenizeRequest request;
  for (const int id : {72, 0xC3, 0xA9, 256, 257}) request.add_ids(id);
  return {request};
}

const Registration generate(ProtoFormat<v1::GenerateRequest>(
    "generate_request", Requests, [](const v1::GenerateRequest& message) {
      const auto request = DecodeGenerateRequest(message, Model(), Facts(), absl::InfiniteFuture());
      if (!request.ok()) EncodeFailure(request.status(), absl::ZeroDuration());
      const auto constraint = DecodeConstraint(message, Model());
      return request.ok() && constraint.ok() &&
             (!*constraint || CheckConstraint(**constraint).ok());
    }));

const Registration tokenize(ProtoFormat<v1::TokenizeRequest>(
    "tokenize_request", Texts, [](const v1::TokenizeRequest& message) {
      return DecodeTokenizeRequest(message, Model()).ok();
    }));

const Registration detokenize(ProtoFormat<v1::DetokenizeRequest>(
    "detokenize_request", Ids, [](const v1::DetokenizeRequest& message) {
      const auto text = DecodeDetokenizeRequest(message, Model());
      v1::DetokenizeResponse response;
      if (text.ok()) response.set_text(*text);
      return text.ok();
    }));

}  // namespace
}  // namespace pregate::fuzz::inference
