#include "scheduler_service/core/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace pregate::scheduler {
namespace {

WorkerFacts SmallCell() {
  return {.vocab_size = 100, .num_experts = 4, .kv_blocks = 3, .context_tokens = 32};
}

struct Fields : GenerateRequest {
  Fields() { prompt = {1, 2, 3}; }
  absl::StatusOr<int32_t> Check(const WorkerFacts& cell) const { return CheckRequest(*this, cell); }
};

TEST(AdmissionTest, MaxTokensDefaultsToWhatTheContextLeaves) {
  EXPECT_EQ(*Fields().Check(SmallCell()), 29);
  WorkerFacts cell = SmallCell();
  cell.kv_blocks = 1;
  EXPECT_EQ(*Fields().Check(cell), 13);
}

TEST(AdmissionTest, TakesWhatJustFits) {
  Fields f;
  f.max_tokens = 29;
  f.resume_tokens = {4, 5};
  f.resume_routes = {3, kNoRoute};  // the last token of a stream may have no route
  f.stop_strings = {"four"};
  f.stop_tokens = {99};
  EXPECT_EQ(*f.Check(SmallCell()), 29);
}

struct Refusal {
  const char* message;
  std::function<void(Fields*)> change;
};

TEST(AdmissionTest, RefusalsNameFieldValueAndBound) {
  const Refusal refusals[] = {
      {"prompt has no tokens", [](Fields* f) { f->prompt.clear(); }},
      {"prompt[1] is 100, must be 0..99", [](Fields* f) { f->prompt[1] = 100; }},
      {"prompt[0] is -1, must be 0..99", [](Fields* f) { f->prompt[0] = -1; }},
      {"prompt of 3 tokens and max_tokens 30 exceed the context of 32 tokens",
       [](Fields* f) { f->max_tokens = 30; }},
      {"prompt of 3 tokens and max_tokens 2147483647 exceed",
       [](Fields* f) { f->max_tokens = INT32_MAX; }},
      {"prompt of 32 tokens and max_tokens 1 exceed", [](Fields* f) { f->prompt.assign(32, 1); }},
      {"max_tokens is 0, must be positive", [](Fields* f) { f->max_tokens = 0; }},
      {"resume_tokens has 2 tokens, more than max_tokens 1",
       [](Fields* f) {
         f->max_tokens = 1;
         f->resume_tokens = {1, 2};
       }},
      {"resume_tokens[0] is 100", [](Fields* f) { f->resume_tokens = {100}; }},
      {"resume_routes has 1 routes, resume_tokens 2 tokens",
       [](Fields* f) {
         f->resume_tokens = {1, 2};
         f->resume_routes = {1};
       }},
      {"resume_routes[0] is 4, must be 0..3",
       [](Fields* f) {
         f->resume_tokens = {1};
         f->resume_routes = {4};
       }},
      {"temperature is nan", [](Fields* f) { f->sampling.temperature = NAN; }},
      {"top_p is 1.5, must be 0..1", [](Fields* f) { f->sampling.top_p = 1.5f; }},
      {"min_p is -1", [](Fields* f) { f->sampling.min_p = -1; }},
      {"repetition_penalty is 0", [](Fields* f) { f->sampling.repetition_penalty = 0; }},
      {"top_k is -1", [](Fields* f) { f->sampling.top_k = -1; }},
      {"frequency_penalty is 2.1, must be -2..2",
       [](Fields* f) { f->sampling.frequency_penalty = 2.1f; }},
      {"presence_penalty is -inf", [](Fields* f) { f->sampling.presence_penalty = -INFINITY; }},
      {"logit_bias[3] is nan, must be -100..100",
       [](Fields* f) {
         f->logit_bias = {{3, NAN}};
       }},
      {"logit_bias names token 100, must be 0..99",
       [](Fields* f) {
         f->logit_bias = {{100, 1}};
       }},
      {"logit_bias has 1025 tokens, at most 1024", [](Fields* f) { f->logit_bias.resize(1025); }},
      {"min_tokens is 30, must be 0..29", [](Fields* f) { f->min_tokens = 30; }},
      {"min_tokens is -1, must be 0..29", [](Fields* f) { f->min_tokens = -1; }},
      {"logprobs is 21, must be 0..20", [](Fields* f) { f->logprobs = 21; }},
      {"prompt_logprobs is -1, must be 0..20", [](Fields* f) { f->prompt_logprobs = -1; }},
      {"priority is 11, must be -10..10", [](Fields* f) { f->priority = 11; }},
      {"stop_strings has 17, at most 16", [](Fields* f) { f->stop_strings.assign(17, "x"); }},
      {"stop_strings[1] is empty",
       [](Fields* f) {
         f->stop_strings = {"x", ""};
       }},
      {"stop_strings[0] in bytes has 257, at most 256",
       [](Fields* f) { f->stop_strings = {std::string(257, 'x')}; }},
      {"stop_tokens[0] is 100", [](Fields* f) { f->stop_tokens = {100}; }},
  };
  for (const Refusal& refusal : refusals) {
    Fields fields;
    refusal.change(&fields);
    const absl::Status status = fields.Check(SmallCell()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << refusal.message;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(refusal.message));
  }
}

TEST(AdmissionTest, RefusesWhatCanNeverFitIntoKvMemory) {
  WorkerFacts cell = SmallCell();
  cell.kv_blocks = 1;
  Fields f;
  f.max_tokens = 14;
  EXPECT_THAT(std::string(f.Check(cell).status().message()),
              testing::HasSubstr("the KV memory of 16 tokens"));
}

TEST(AdmissionTest, ADenseModelTakesNoRoutes) {
  WorkerFacts cell = SmallCell();
  cell.num_experts = 0;
  Fields f;
  f.resume_tokens = {1};
  EXPECT_TRUE(f.Check(cell).ok());
  f.resume_routes = {0};
  EXPECT_TRUE(absl::IsInvalidArgument(f.Check(cell).status()));
}

TEST(AdmissionTest, AFullQueueRefuses) {
  EXPECT_TRUE(CheckQueue({1, 1}, 2).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(CheckQueue({2, 2}, 2)));
  EXPECT_TRUE(absl::IsResourceExhausted(CheckQueue({2, 0}, 2)));
}

TEST(AdmissionTest, OneClientLeavesPlacesToOthers) {
  QueueLength waiting;
  const auto fill = [&] {
    for (waiting.of_client = 0; CheckQueue(waiting, 256).ok(); ++waiting.of_client) ++waiting.all;
    return waiting.of_client;
  };
  EXPECT_EQ(fill(), 224);
  EXPECT_THAT(std::string(CheckQueue(waiting, 256).message()),
              testing::HasSubstr("for this client: 224 of its requests wait, 32 places are left"));
  EXPECT_EQ(fill(), 28);
  EXPECT_EQ(fill(), 4);
}

TEST(RetryAfterTest, FollowsTheRateOfLeavingRequests) {
  RetryAfter retry;
  EXPECT_EQ(retry.Estimate(), absl::Seconds(1));
  absl::Time t = absl::UnixEpoch();
  for (int i = 0; i < 100; ++i) retry.RequestLeft(t += absl::Milliseconds(400));
  EXPECT_NEAR(absl::ToDoubleSeconds(retry.Estimate()), 0.4, 0.01);
  for (int i = 0; i < 100; ++i) retry.RequestLeft(t += absl::Hours(1));
  EXPECT_EQ(retry.Estimate(), absl::Seconds(30));
}

}  // namespace
}  // namespace pregate::scheduler
