// A healthy cluster of processes under clients that are many, impatient, greedy or malformed.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/integration/cluster.h"

namespace pregate::testing {
namespace {

using ::testing::HasSubstr;

std::string Prompt(int i) {
  return absl::StrCat("Prompt number ", i, ": once upon a time there was ");
}

// Runs n generations at once; request i is made by `make`.
template <typename Make>
std::vector<Generation> GenerateMany(Cluster& cluster, int n, Make make) {
  std::vector<Generation> all(n);
  std::vector<std::thread> clients;
  for (int i = 0; i < n; ++i) {
    clients.emplace_back([&, i] { all[i] = Generate(cluster.stub(), make(i)); });
  }
  for (std::thread& t : clients) t.join();
  return all;
}

// Token by token, so that it lasts: the model repeats itself, and drafts would end it too soon.
v1::GenerateRequest LongRequest(int i, int max_tokens) {
  v1::GenerateRequest request = Request(Prompt(i), max_tokens);
  request.set_no_drafts(true);
  return request;
}

bool FreesItsBlocks(Cluster& cluster) {
  return WaitUntil(
      [&] {
        return cluster.Metric("pregate_kv_cache_usage_ratio{model=\"tiny-3\"}").value_or(1) == 0;
      },
      absl::Seconds(5));
}
double GeneratedTokens(Cluster& cluster) {
  return cluster.Metric("pregate_generation_tokens_total{model=\"tiny-3\"}").value_or(1e9);
}

TEST(ServingTest, SixtyFourConcurrentStreamsEqualTheSameRequestsAlone) {
  Cluster cluster({});
  cluster.AwaitReady();
  const auto make = [](int i) { return Request(Prompt(i), 24, i % 2 ? 0.9f : 0.0f, 100 + i); };
  const std::vector<Generation> together = GenerateMany(cluster, 64, make);
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(together[i].status.ok()) << i << ": " << together[i].status.error_message();
    EXPECT_EQ(together[i].ids.size(), 24u);
    EXPECT_EQ(together[i].routes.size(), 24u);
    EXPECT_EQ(together[i].done.finish_reason(), v1::FINISH_REASON_LENGTH);
  }
  for (int i = 0; i < 64; i += 9) {
    const Generation alone = Generate(cluster.stub(), make(i));
    EXPECT_EQ(alone.ids, together[i].ids) << "request " << i;
    EXPECT_EQ(alone.text, together[i].text) << "request " << i;
    EXPECT_EQ(alone.routes, together[i].routes) << "request " << i;
  }
}

TEST(ServingTest, ADenseModelNeedsNoRouter) {
  Cluster cluster({.experts = 0});
  cluster.AwaitReady();
  const Generation g = Generate(cluster.stub(), Request("hello", 8));
  ASSERT_TRUE(g.status.ok()) << g.status.error_message();
  EXPECT_EQ(g.ids.size(), 8u);
  EXPECT_TRUE(g.routes.empty());
}

// What stops by a stop string, or is cancelled, is known only when a plan that goes on with it is
// already at the worker: under run-ahead each is a drop in flight.
TEST(ServingTest, RunAheadAndLockstepGiveEqualTextOverBothLinksWithDropsInFlight) {
  constexpr int kRequests = 12;
  const auto whole = [](int i) { return Request(Prompt(i), 40 + i, i % 2 ? 0.8f : 0.0f, i); };
  Cluster lockstep({.scheduler_flags = {"--run-ahead", "off"}});
  lockstep.AwaitReady();
  const auto texts = GenerateMany(lockstep, kRequests, whole);
  const auto make = [&](int i) {
    v1::GenerateRequest request = whole(i);
    const std::string& text = texts[i].text;
    if (i % 3 == 0) request.add_stop_strings(text.substr(text.size() / 2, 3));
    return request;
  };
  const auto generate_all = [&](Cluster& cluster) {
    std::thread impatient([&] {
      const Generation g = Generate(cluster.stub(), LongRequest(99, 1000), absl::Seconds(60),
                                    [](int num_tokens, grpc::ClientContext& context) {
                                      if (num_tokens >= 7) context.TryCancel();
                                    });
      EXPECT_EQ(g.status.error_code(), grpc::StatusCode::CANCELLED);
    });
    auto all = GenerateMany(cluster, kRequests, make);
    impatient.join();
    return all;
  };
  const auto expected = generate_all(lockstep);
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(expected[i].status.ok()) << i << ": " << expected[i].status.error_message();
    EXPECT_EQ(expected[i].done.finish_reason(),
              i % 3 == 0 ? v1::FINISH_REASON_STOP_STRING : v1::FINISH_REASON_LENGTH);
  }
  const ClusterOptions others[] = {
      {.scheduler_flags = {"--run-ahead", "on"}},
      {.scheduler_flags = {"--decode-routing", "service"}},
      {.one_process = true, .scheduler_flags = {"--run-ahead", "off"}},
      {.one_process = true, .scheduler_flags = {"--run-ahead", "on"}},
      {.one_process = true, .scheduler_flags = {"--decode-routing", "service"}},
  };
  for (const ClusterOptions& options : others) {
    SCOPED_TRACE(absl::StrCat(options.one_process ? "in process " : "gRPC ",
                              options.scheduler_flags[0], " ", options.scheduler_flags[1]));
    Cluster cluster(options);
    cluster.AwaitReady();
    const auto got = generate_all(cluster);
    for (int i = 0; i < kRequests; ++i) {
      ASSERT_TRUE(got[i].status.ok()) << i << ": " << got[i].status.error_message();
      EXPECT_EQ(got[i].ids, expected[i].ids) << i;
      EXPECT_EQ(got[i].text, expected[i].text) << i;
      // The service is not asked for the last token's route: nothing runs on it.
      const size_t routes = got[i].ids.size() - 1;
      ASSERT_GE(got[i].routes.size(), routes) << i;
      EXPECT_TRUE(std::equal(got[i].routes.begin(), got[i].routes.begin() + routes,
                             expected[i].routes.begin()))
          << i;
    }
  }
}

// Text does not depend on how many workers share the experts, how they exchange, or how many
// experts fit on a device.
TEST(ServingTest, OneWorkerTwoWorkersAndFewSlotsGiveEqualText) {
  const auto make = [](int i) { return Request(Prompt(i), 24, i % 2 ? 0.9f : 0.0f, 100 + i); };
  std::vector<Generation> expected;
  for (const ClusterOptions& options : std::vector<ClusterOptions>{
           {},
           {.worker_flags = {"--expert-slots", "1"}},
           {.worker_flags = {"--expert-slots", "2"}},
           {.workers = 2},
           {.workers = 2, .worker_flags = {"--expert-slots", "1"}},
           {.one_process = true, .scheduler_flags = {"--workers", "2"}},
           {.one_process = true, .scheduler_flags = {"--workers", "3", "--expert-slots", "1"}}}) {
    Cluster cluster(options);
    cluster.AwaitReady();
    const std::vector<Generation> got = GenerateMany(cluster, 12, make);
    if (expected.empty()) expected = got;
    for (int i = 0; i < 12; ++i) {
      ASSERT_TRUE(got[i].status.ok()) << i << ": " << got[i].status.error_message();
      EXPECT_EQ(got[i].ids, expected[i].ids) << "request " << i << ", workers " << options.workers;
      EXPECT_EQ(got[i].routes, expected[i].routes) << "request " << i;
    }
  }
}

TEST(ServingTest, ACancelledCallFreesItsBlocks) {
  Cluster cluster({});
  cluster.AwaitReady();
  // The rest of a context of 2,048 tokens: far more than are computed by the time that the cancel
  // arrives.
  v1::GenerateRequest request = LongRequest(1, 0);
  request.clear_max_tokens();
  const Generation g = Generate(cluster.stub(), request, absl::Seconds(60),
                                [](int num_tokens, grpc::ClientContext& context) {
                                  if (num_tokens >= 5) context.TryCancel();
                                });
  EXPECT_EQ(g.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_FALSE(g.finished);
  EXPECT_TRUE(FreesItsBlocks(cluster));
  // Freed by the cancel, not by having come to its end.
  EXPECT_LT(GeneratedTokens(cluster), 1000);
}

TEST(ServingTest, ADeadlineEndsTheCallAndKeepsWhatWasStreamed) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest request = LongRequest(2, 0);
  request.clear_max_tokens();
  const Generation whole = Generate(cluster.stub(), request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  // A tenth of what the whole takes.
  const absl::Duration deadline = absl::Seconds(whole.done.timings().total_seconds() / 10);
  const Generation g = Generate(cluster.stub(), request, deadline);
  EXPECT_EQ(g.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_LT(g.ids.size(), whole.ids.size());
  EXPECT_TRUE(std::equal(g.ids.begin(), g.ids.end(), whole.ids.begin()));
  EXPECT_TRUE(FreesItsBlocks(cluster));
  EXPECT_LT(GeneratedTokens(cluster), 1.5 * whole.ids.size());  // the whole and a part
}

TEST(ServingTest, AFullQueueRefusesWithARetryPushback) {
  Cluster cluster({.scheduler_flags = {"--queue-max", "2"}, .worker_flags = {"--seq-slots", "1"}});
  cluster.AwaitReady();
  const auto all = GenerateMany(cluster, 16, [](int i) { return Request(Prompt(i), 100); });
  int served = 0, refused = 0;
  for (const Generation& g : all) {
    if (g.status.ok()) {
      ++served;
    } else {
      ++refused;
      EXPECT_EQ(g.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
          << g.status.error_message();
      EXPECT_FALSE(g.status.error_details().empty());
    }
  }
  EXPECT_GE(served, 2);  // as many as may wait
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(Generate(cluster.stub(), Request("after", 4)).status.ok());
}

TEST(ServingTest, KvExhaustionPreemptsAndEveryStreamKeepsItsText) {
  const auto make = [](int i) { return Request(Prompt(i), 90, 0.7f, i); };
  Cluster roomy({});
  roomy.AwaitReady();
  const auto expected = GenerateMany(roomy, 8, make);
  // Enough blocks for about three of the eight sequences.
  Cluster tight({.worker_flags = {"--kv-blocks", "30"}});
  tight.AwaitReady();
  const auto got = GenerateMany(tight, 8, make);
  int preemptions = 0;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(got[i].status.ok()) << i << ": " << got[i].status.error_message();
    EXPECT_EQ(got[i].ids, expected[i].ids) << i;
    preemptions += got[i].done.usage().preemptions();
  }
  EXPECT_GT(preemptions, 0);
}

TEST(ServingTest, AResumedStreamGoesOnWithTheSameTokens) {
  Cluster cluster({});
  cluster.AwaitReady();
  const v1::GenerateRequest request = Request(Prompt(3), 40, 0.9f, 77);
  const Generation whole = Generate(cluster.stub(), request);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  v1::GenerateRequest again = request;
  v1::Resume* resume = again.mutable_resume();
  for (int i = 0; i < 15; ++i) {
    resume->add_tokens(whole.ids[i]);
    resume->add_routes(whole.routes[i]);
  }
  resume->set_seed(whole.start.seed());
  resume->set_model_digest(whole.start.model_digest());
  resume->set_numerics_id(whole.start.numerics_id());
  const Generation rest = Generate(cluster.stub(), again);
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.ids, std::vector<int32_t>(whole.ids.begin() + 15, whole.ids.end()));

  resume->set_model_digest("another");
  EXPECT_EQ(Generate(cluster.stub(), again).status.error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

struct Malformed {
  const char* what;
  void (*corrupt)(v1::GenerateRequest&);
  grpc::StatusCode code;
  const char* named;  // must appear in the message
};

TEST(ServingTest, MalformedRequestsAreRefusedByFieldAndValue) {
  Cluster cluster({});
  cluster.AwaitReady();
  const Malformed cases[] = {
      {"no input", [](auto& r) { r.clear_input(); }, grpc::INVALID_ARGUMENT, "input"},
      {"empty text", [](auto& r) { r.set_text(""); }, grpc::INVALID_ARGUMENT, ""},
      {"token out of range", [](auto& r) { r.mutable_tokens()->add_ids(1 << 30); },
       grpc::INVALID_ARGUMENT, "1073741824"},
      {"negative token", [](auto& r) { r.mutable_tokens()->add_ids(-1); }, grpc::INVALID_ARGUMENT,
       "-1"},
      {"max_tokens beyond context", [](auto& r) { r.set_max_tokens(1 << 19); },
       grpc::INVALID_ARGUMENT, "524288"},
      {"negative temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-1); },
       grpc::INVALID_ARGUMENT, "temperature"},
      {"top_p above one", [](auto& r) { r.mutable_sampling()->set_top_p(1.5f); },
       grpc::INVALID_ARGUMENT, "top_p"},
      {"priority", [](auto& r) { r.set_priority(11); }, grpc::INVALID_ARGUMENT, "priority is 11"},
      {"min_tokens above max_tokens", [](auto& r) { r.set_min_tokens(5); }, grpc::INVALID_ARGUMENT,
       "min_tokens is 5"},
      {"logprobs", [](auto& r) { r.set_logprobs(21); }, grpc::INVALID_ARGUMENT, "logprobs is 21"},
      {"logit_bias", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[3] = NAN; },
       grpc::INVALID_ARGUMENT, "logit_bias[3] is nan"},
      {"best_of below n",
       [](auto& r) {
         r.set_n(3);
         r.set_best_of(2);
       },
       grpc::INVALID_ARGUMENT, "best_of is 2"},
      {"n", [](auto& r) { r.set_n(33); }, grpc::INVALID_ARGUMENT, "n is 33"},
      {"prompt_logprobs", [](auto& r) { r.set_prompt_logprobs(-1); }, grpc::INVALID_ARGUMENT,
       "prompt_logprobs is -1"},
      {"empty stop string", [](auto& r) { r.add_stop_strings(""); }, grpc::INVALID_ARGUMENT,
       "stop_strings"},
      {"unknown role",
       [](auto& r) {
         auto* m = r.mutable_chat()->add_messages();
         m->set_role("wizard");
         m->set_content("x");
       },
       grpc::INVALID_ARGUMENT, "wizard"},
      {"another model", [](auto& r) { r.set_model("gpt-17"); }, grpc::NOT_FOUND, "gpt-17"},
  };
  for (const Malformed& c : cases) {
    v1::GenerateRequest request = Request("hello", 4);
    c.corrupt(request);
    const Generation g = Generate(cluster.stub(), request);
    EXPECT_EQ(g.status.error_code(), c.code) << c.what << ": " << g.status.error_message();
    EXPECT_THAT(g.status.error_message(), HasSubstr(c.named)) << c.what;
    EXPECT_TRUE(g.ids.empty()) << c.what;
  }
  EXPECT_TRUE(Generate(cluster.stub(), Request("hello", 4)).status.ok());
}

TEST(ServingTest, AChoiceIsARequestOfItsOwnWithItsSeed) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest request = Request(Prompt(1), 12, 8.0f, 77);
  request.mutable_sampling()->set_frequency_penalty(1.5f);
  request.set_n(3);
  const Generation all = Generate(cluster.stub(), request);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  ASSERT_EQ(all.choices_done.size(), 3u);
  EXPECT_EQ(all.done.usage().generated_tokens(), 36);
  request.clear_n();
  std::set<std::vector<int32_t>> different;
  for (const v1::GenerateChoiceDone& done : all.choices_done) {
    EXPECT_EQ(done.seed(), 77 + static_cast<uint64_t>(done.index()) * 0x9E3779B97F4A7C15u);
    request.mutable_sampling()->set_seed(done.seed());
    const Generation one = Generate(cluster.stub(), request);
    EXPECT_EQ(one.ids, all.choices.at(done.index())) << "choice " << done.index();
    different.insert(one.ids);
  }
  EXPECT_EQ(different.size(), 3u);
  EXPECT_EQ(all.done.usage().prompt_tokens(), all.start.prompt_tokens());
}

TEST(ServingTest, TheBestOfSeveralAreTheLikeliestOnAverage) {
  Cluster cluster({});
  cluster.AwaitReady();
  std::map<double, std::vector<int32_t>> by_mean;
  for (int i = 0; i < 4; ++i) {
    v1::GenerateRequest one = Request(Prompt(2), 8, 8.0f, 5 + i * 0x9E3779B97F4A7C15u);
    one.set_logprobs(0);
    const Generation g = Generate(cluster.stub(), one);
    double sum = 0;
    for (const auto& token : g.logprobs) sum += token.token().logprob();
    by_mean[sum / 8] = g.ids;
  }
  v1::GenerateRequest request = Request(Prompt(2), 8, 8.0f, 5);
  request.set_best_of(4);
  const Generation best = Generate(cluster.stub(), request);
  ASSERT_TRUE(best.status.ok()) << best.status.error_message();
  EXPECT_EQ(best.ids, by_mean.rbegin()->second);
  EXPECT_TRUE(best.logprobs.empty());
  EXPECT_EQ(best.done.usage().generated_tokens(), 32);
}

TEST(ServingTest, LogprobsAreOfTheModelAloneAndThePromptsAreThoseOfAnAnswer) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest request = Request(Prompt(3), 10);
  request.set_logprobs(2);
  request.set_echo(true);
  request.set_prompt_logprobs(2);
  const Generation g = Generate(cluster.stub(), request);
  ASSERT_TRUE(g.status.ok()) << g.status.error_message();
  EXPECT_EQ(g.start.prompt_text(), Prompt(3));
  ASSERT_EQ(g.start.prompt_ids_size(), g.start.prompt_tokens());
  ASSERT_EQ(g.logprobs.size(), g.ids.size());
  ASSERT_EQ(g.prompt_logprobs.size(), static_cast<size_t>(g.start.prompt_tokens() - 1));
  for (size_t i = 0; i < g.ids.size(); ++i) {
    const v1::TokenProbabilities& at = g.logprobs[i];
    EXPECT_EQ(at.token().id(), g.ids[i]);
    ASSERT_EQ(at.top_size(), 2);
    EXPECT_EQ(at.top(0).id(), g.ids[i]) << "greedy";
    EXPECT_EQ(at.top(0).logprob(), at.token().logprob());
    EXPECT_LE(at.top(1).logprob(), at.top(0).logprob());
    EXPECT_FALSE(at.token().bytes().empty());
  }
  // What was generated, as a prompt: the same numbers to the last bit.
  v1::GenerateRequest again = Request("", 1);
  for (const int32_t id : g.start.prompt_ids()) again.mutable_tokens()->add_ids(id);
  for (const int32_t id : g.ids) again.mutable_tokens()->add_ids(id);
  again.set_prompt_logprobs(2);
  const Generation whole = Generate(cluster.stub(), again);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  ASSERT_EQ(whole.prompt_logprobs.size(), g.prompt_logprobs.size() + g.logprobs.size());
  for (size_t i = 0; i < whole.prompt_logprobs.size(); ++i) {
    const size_t generated = i - g.prompt_logprobs.size();
    const v1::TokenProbabilities& want =
        i < g.prompt_logprobs.size() ? g.prompt_logprobs[i] : g.logprobs[generated];
    EXPECT_EQ(whole.prompt_logprobs[i].SerializeAsString(), want.SerializeAsString()) << i;
  }
}

TEST(ServingTest, BiasAndMinTokensRuleOverTheModel) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest biased = Request(Prompt(4), 5);
  (*biased.mutable_sampling()->mutable_logit_bias())[42] = 100;
  const Generation forced = Generate(cluster.stub(), biased);
  EXPECT_EQ(forced.ids, std::vector<int32_t>(5, 42)) << forced.status.error_message();
  biased.add_stop_token_ids(42);
  biased.set_min_tokens(3);
  const Generation kept = Generate(cluster.stub(), biased);
  ASSERT_EQ(kept.ids.size(), 4u) << kept.status.error_message();
  EXPECT_EQ(std::count(kept.ids.begin(), kept.ids.end(), 42), 1);
  EXPECT_EQ(kept.done.finish_reason(), v1::FINISH_REASON_STOP_TOKEN);
}

TEST(ServingTest, StopStringsEndTheTextBeforeTheMatch) {
  Cluster cluster({});
  cluster.AwaitReady();
  const Generation whole = Generate(cluster.stub(), Request(Prompt(4), 60));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  ASSERT_GT(whole.text.size(), 12u);
  const std::string stop = whole.text.substr(whole.text.size() / 2, 3);
  v1::GenerateRequest request = Request(Prompt(4), 60);
  request.add_stop_strings(stop);
  const Generation g = Generate(cluster.stub(), request);
  ASSERT_TRUE(g.status.ok()) << g.status.error_message();
  EXPECT_EQ(g.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(g.done.finish_reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(g.done.stop_string(), stop);
}

TEST(ServingTest, SigtermFinishesWhatRunsAndRefusesTheRest) {
  Cluster cluster({});
  cluster.AwaitReady();
  bool asked = false;
  Generation late;
  const Generation g =
      Generate(cluster.stub(), LongRequest(5, 1000), absl::Seconds(60),
               [&](int num_tokens, grpc::ClientContext&) {
                 if (num_tokens < 3 || asked) return;
                 asked = true;
                 cluster.scheduler().Signal(SIGTERM);
                 EXPECT_TRUE(WaitUntil([&] { return !cluster.Ready(); }, absl::Seconds(5)));
                 late = Generate(cluster.stub(), Request(Prompt(6), 5), absl::Seconds(5));
               });
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::UNAVAILABLE) << late.status.error_message();
  EXPECT_TRUE(late.ids.empty());
  EXPECT_TRUE(g.status.ok()) << g.status.error_message();
  EXPECT_EQ(g.ids.size(), 1000u);
  EXPECT_EQ(cluster.scheduler().Wait(absl::Seconds(20)), 0);
  cluster.worker().Signal(SIGTERM);
  cluster.router().Signal(SIGTERM);
  EXPECT_EQ(cluster.worker().Wait(absl::Seconds(20)), 0);
  EXPECT_EQ(cluster.router().Wait(absl::Seconds(20)), 0);
}

}  // namespace
}  // namespace pregate::testing
