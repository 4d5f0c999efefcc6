#include "scheduler_service/edge/inference_codec.h"

#include <google/protobuf/stubs/logging.h>

#include <chrono>

#include "common/base/limits.h"
#include "common/rpc/testing/random_proto.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler_service/edge/testing/byte_model.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kBeginOfTurn;
using testing::kEndOfTurn;

class InferenceCodecTest : public ::testing::Test {
 protected:
  absl::StatusOr<GenerateRequest> Decode(const v1::GenerateRequest& in) {
    return DecodeGenerateRequest(in, model_, facts_, absl::InfiniteFuture());
  }

  const ServedModel model_ = testing::MakeByteModel();
  const WorkerFacts facts_{
      .model_digest = "digest-1", .numerics_id = "avx2-f32", .context_tokens = 128};
};

TEST_F(InferenceCodecTest, TakesEveryFieldOfARequest) {
  v1::GenerateRequest in;
  in.set_request_id("r1");
  in.set_tenant("t1");
  in.set_model("bytes");
  in.set_text("ab");
  in.mutable_sampling()->set_temperature(0.5f);
  in.mutable_sampling()->set_top_k(7);
  in.mutable_sampling()->set_top_p(0.9f);
  in.mutable_sampling()->set_min_p(0.1f);
  in.mutable_sampling()->set_repetition_penalty(1.2f);
  in.mutable_sampling()->set_seed(0);
  in.mutable_sampling()->set_frequency_penalty(0.25f);
  in.mutable_sampling()->set_presence_penalty(-2);
  for (const int id : {9, 3, 5}) (*in.mutable_sampling()->mutable_logit_bias())[id] = id;
  in.set_max_tokens(5);
  in.set_min_tokens(4);
  in.set_logprobs(0);
  in.set_prompt_logprobs(20);
  in.set_n(2);
  in.set_best_of(3);
  in.set_priority(-2);
  in.add_stop_strings("x");
  in.add_stop_token_ids(3);
  in.set_ignore_eos(true);
  in.set_no_drafts(true);
  const auto request = Decode(in);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->request_id, "r1");
  EXPECT_EQ(request->tenant, "t1");
  EXPECT_THAT(request->prompt, ElementsAre('a', 'b'));
  EXPECT_EQ(request->sampling, (SamplingParams{0.5f, 7, 0.9f, 0.1f, 1.2f, 0.25f, -2}));
  EXPECT_THAT(request->logit_bias, ElementsAre(LogitBias{3, 3}, LogitBias{5, 5}, LogitBias{9, 9}));
  EXPECT_EQ(request->min_tokens, 4);
  EXPECT_EQ(request->logprobs, 0);
  EXPECT_EQ(request->prompt_logprobs, 20);
  EXPECT_EQ(request->n, 2);
  EXPECT_EQ(request->best_of, 3);
  EXPECT_EQ(request->priority, -2);
  EXPECT_EQ(request->seed, 0u);
  EXPECT_EQ(request->max_tokens, 5);
  EXPECT_THAT(request->stop_strings, ElementsAre("x"));
  EXPECT_THAT(request->stop_tokens, ElementsAre(3));
  EXPECT_TRUE(request->ignore_eos);
  EXPECT_TRUE(request->no_drafts);
}

TEST_F(InferenceCodecTest, UnsetFieldsAreOff) {
  v1::GenerateRequest in;
  in.mutable_tokens()->add_ids(9);
  const auto request = Decode(in);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling, SamplingParams());
  EXPECT_EQ(request->seed, std::nullopt);
  EXPECT_EQ(request->max_tokens, std::nullopt);
  EXPECT_TRUE(request->logit_bias.empty());
  EXPECT_EQ(request->min_tokens, 0);
  EXPECT_EQ(request->logprobs, std::nullopt);
  EXPECT_EQ(request->prompt_logprobs, std::nullopt);
  EXPECT_EQ(request->n, 1);
  EXPECT_THAT(request->prompt, ElementsAre(9));
}

TEST_F(InferenceCodecTest, AppliesTheChatTemplateOnTheServer) {
  v1::GenerateRequest in;
  v1::ChatMessage* message = in.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("a");
  const auto request = Decode(in);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->prompt, ElementsAre(kBeginOfTurn, 'a', kEndOfTurn, kBeginOfTurn));
}

TEST_F(InferenceCodecTest, RefusesByFieldAndValue) {
  const struct {
    std::function<void(v1::GenerateRequest&)> corrupt;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {[](auto& r) { r.clear_input(); }, absl::StatusCode::kInvalidArgument, "input is not set"},
      {[](auto& r) { r.set_text(""); }, absl::StatusCode::kInvalidArgument, "text is empty"},
      {[](auto& r) { r.set_text(std::string(kPromptBytesMax + 1, 'x')); },
       absl::StatusCode::kInvalidArgument, "text has 3145729 bytes"},
      {[](auto& r) { r.mutable_tokens(); }, absl::StatusCode::kInvalidArgument, "tokens is empty"},
      {[](auto& r) { r.mutable_chat(); }, absl::StatusCode::kInvalidArgument,
       "chat.messages is empty"},
      {[](auto& r) {
         r.mutable_chat()->add_messages()->set_role("user");
         r.mutable_chat()->add_tools("{}");
       },
       absl::StatusCode::kUnimplemented, "the chat template of model 'bytes' has no tools"},
      {[](auto& r) { r.mutable_chat()->add_messages()->set_role("wizard"); },
       absl::StatusCode::kInvalidArgument, "chat.messages[0].role is 'wizard'"},
      {[](auto& r) { r.set_request_id(std::string(129, 'x')); }, absl::StatusCode::kInvalidArgument,
       "request_id has 129 bytes"},
      {[](auto& r) { r.set_model("gpt-17"); }, absl::StatusCode::kNotFound, "gpt-17"},
      {[](auto& r) {
         for (int i = 0; i < 1025; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1;
       },
       absl::StatusCode::kInvalidArgument, "logit_bias has 1025"},
      {[](auto& r) { r.set_n(-1); }, absl::StatusCode::kInvalidArgument, "n is -1"},
      {[](auto& r) { r.set_best_of(33); }, absl::StatusCode::kInvalidArgument, "best_of is 33"},
      {[](auto& r) {
         r.set_n(3);
         r.set_best_of(2);
       },
       absl::StatusCode::kInvalidArgument, "best_of is 2, below n, which is 3"},
      {[](auto& r) {
         r.set_n(2);
         r.mutable_resume()->add_tokens(1);
       },
       absl::StatusCode::kInvalidArgument, "resume is for one generation"},
      {[](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop_strings("x");
       },
       absl::StatusCode::kInvalidArgument, "stop_strings has 17"},
      {[](auto& r) { r.mutable_resume()->set_model_digest("other"); },
       absl::StatusCode::kFailedPrecondition, "resume.model_digest is 'other'"},
      {[](auto& r) {
         r.mutable_resume()->set_model_digest("digest-1");
         r.mutable_resume()->set_numerics_id("avx512");
       },
       absl::StatusCode::kFailedPrecondition, "resume.numerics_id is 'avx512'"},
  };
  for (const auto& c : kCases) {
    v1::GenerateRequest in;
    in.set_text("a");
    c.corrupt(in);
    const auto request = Decode(in);
    EXPECT_EQ(request.status().code(), c.code) << c.message;
    EXPECT_THAT(std::string(request.status().message()), HasSubstr(c.message));
  }
}

TEST_F(InferenceCodecTest, AResumeCarriesTokensRoutesAndSeed) {
  v1::GenerateRequest in;
  in.set_text("a");
  in.mutable_sampling()->set_seed(1);
  in.mutable_resume()->add_tokens(5);
  in.mutable_resume()->add_routes(2);
  in.mutable_resume()->set_seed(77);
  in.mutable_resume()->set_model_digest("digest-1");
  in.mutable_resume()->set_numerics_id("avx2-f32");
  const auto request = Decode(in);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->resume_tokens, ElementsAre(5));
  EXPECT_THAT(request->resume_routes, ElementsAre(2));
  EXPECT_EQ(request->seed, 77u);
  const auto too_early = DecodeGenerateRequest(in, model_, WorkerFacts(), absl::InfiniteFuture());
  EXPECT_TRUE(absl::IsUnavailable(too_early.status()));
}

TEST_F(InferenceCodecTest, RandomAndMutatedRequestsNeverCrash) {
  const uint64_t seed = std::chrono::steady_clock::now().time_since_epoch().count();
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  google::protobuf::LogSilencer quiet;
  int num_parsed = 0;
  for (int i = 0; i < 10000; ++i) {
    v1::GenerateRequest in;
    testing::FillRandom(&in, random, {.wild = i % 2 == 0});
    (void)Decode(in);
    if (in.ParseFromString(testing::Mutate(in.SerializeAsString(), random))) {
      ++num_parsed;
      (void)Decode(in);
    }
  }
  EXPECT_GT(num_parsed, 100);
}

TEST_F(InferenceCodecTest, DetokenizeChecksIds) {
  v1::DetokenizeRequest in;
  in.add_ids('h');
  in.add_ids(kEndOfTurn);
  in.add_ids('i');
  EXPECT_EQ(*DecodeDetokenizeRequest(in, model_), "hi");
  in.add_ids(258);
  EXPECT_THAT(std::string(DecodeDetokenizeRequest(in, model_).status().message()),
              HasSubstr("ids[3] is 258"));
}

TEST_F(InferenceCodecTest, EncodesAnswers) {
  const StartInfo start{.seed = 5,
                        .model_digest = "d",
                        .numerics_id = "n",
                        .prompt_tokens = 2,
                        .prompt_routes = {1, 2}};
  EXPECT_EQ(EncodeStart(start, "r", false).start().prompt_routes_size(), 0);
  EXPECT_THAT(EncodeStart(start, "r", true).start().prompt_routes(), ElementsAre(1, 2));
  EXPECT_EQ(EncodeStart(start, "r", true).start().seed(), 5u);

  const TokensOut out{.tokens = {7, 8}, .routes = {0, -1}, .text = "x"};
  const auto encode = [&](const TokensOut& tokens, bool has_routes) {
    return EncodeTokens(tokens, has_routes, *model_.tokenizer).tokens();
  };
  EXPECT_THAT(encode(out, true).routes(), ElementsAre(0, -1));
  EXPECT_EQ(encode(out, false).routes_size(), 0);
  EXPECT_EQ(encode(out, true).text(), "x");
  EXPECT_EQ(encode(out, true).logprobs_size(), 0);

  const TokensOut probable{.tokens = {'b', 256},
                           .logprobs = {{{'b', -1}, {'a', -0.5f}}, {{256, 0}}}};
  const v1::GenerateTokens tokens = encode(probable, false);
  ASSERT_EQ(tokens.logprobs_size(), 2);
  EXPECT_EQ(tokens.logprobs(0).token().bytes(), "b");
  EXPECT_EQ(tokens.logprobs(0).token().logprob(), -1);
  ASSERT_EQ(tokens.logprobs(0).top_size(), 1);
  EXPECT_EQ(tokens.logprobs(0).top(0).id(), 'a');
  EXPECT_EQ(tokens.logprobs(1).token().bytes(), "") << "special";
  EXPECT_EQ(tokens.logprobs(1).top_size(), 0);

  const DoneInfo done{.reason = FinishReason::kStopString,
                      .stop_string = "s",
                      .prompt_tokens = 2,
                      .generated_tokens = 3,
                      .cached_tokens = 1,
                      .draft_tokens = 6,
                      .accepted_tokens = 5,
                      .preemptions = 4,
                      .queue_time = absl::Milliseconds(1),
                      .route_time = absl::Milliseconds(2),
                      .ttft = absl::Milliseconds(3),
                      .total = absl::Milliseconds(4)};
  const v1::GenerateDone encoded = EncodeDone(done).done();
  EXPECT_EQ(encoded.finish_reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(encoded.stop_string(), "s");
  EXPECT_EQ(encoded.usage().prompt_tokens() * 1000 + encoded.usage().generated_tokens() * 100 +
                encoded.usage().cached_tokens() * 10 + encoded.usage().preemptions(),
            2314);
  EXPECT_EQ(encoded.usage().draft_tokens() * 10 + encoded.usage().accepted_tokens(), 65);
  EXPECT_DOUBLE_EQ(encoded.timings().queue_seconds(), 0.001);
  EXPECT_DOUBLE_EQ(encoded.timings().route_seconds(), 0.002);
  EXPECT_DOUBLE_EQ(encoded.timings().ttft_seconds(), 0.003);
  EXPECT_DOUBLE_EQ(encoded.timings().total_seconds(), 0.004);
}

TEST_F(InferenceCodecTest, AnOverloadSaysWhenToTryAgain) {
  const grpc::Status status =
      EncodeFailure(absl::ResourceExhaustedError("the queue is full"), absl::Milliseconds(1500));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::ErrorStatus details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  v1::RetryInfo retry;
  ASSERT_TRUE(retry.ParseFromString(details.details(0).value()));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500'000'000);
  EXPECT_TRUE(EncodeFailure(absl::InternalError("x"), {}).error_details().empty());
}

}  // namespace
}  // namespace pregate
