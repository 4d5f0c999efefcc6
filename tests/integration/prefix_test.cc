// The prefix cache over real processes: conversations that go on from each other, of several tenants,
// give the same tokens, routes and log-probabilities with it and without, whatever runs beside them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/integration/cluster.h"

namespace pregate::testing {
namespace {

constexpr int kWaves = 4, kPerWave = 6;
constexpr int kTokens = 200;     // ids that prompts are made of
constexpr int kPromptMax = 300;  // tokens
const char* const kTenants[] = {"", "", "one", "two"};

std::vector<int32_t> Prompt(const v1::GenerateRequest& request) {
  return {request.tokens().ids().begin(), request.tokens().ids().end()};
}

// A wave at once; each request with its own deadline.
std::vector<Generation> RunWave(Cluster& cluster, const std::vector<v1::GenerateRequest>& wave) {
  std::vector<Generation> all(wave.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < wave.size(); ++i) {
    clients.emplace_back([&, i] { all[i] = Generate(cluster.stub(), wave[i]); });
  }
  for (std::thread& client : clients) client.join();
  return all;
}

// Requests of which each begins as an earlier one, its answer included, up to a random point; and
// what they gave without a prefix cache. Made from a seed that is printed.
class Conversations {
 public:
  explicit Conversations(uint32_t seed) : random_(seed) {
    Cluster cluster({.scheduler_flags = {"--prefix-cache", "off"}});
    cluster.AwaitReady();
    for (int w = 0; w < kWaves; ++w) {
      std::vector<v1::GenerateRequest> wave;
      for (int i = 0; i < kPerWave; ++i) wave.push_back(RandomRequest());
      wave.push_back(wave[Below(kPerWave)]);  // twice at once, as another draw
      wave.back().mutable_sampling()->set_seed(random_());
      std::vector<Generation> answers = RunWave(cluster, wave);
      for (size_t i = 0; i < wave.size(); ++i) {
        EXPECT_TRUE(answers[i].status.ok()) << answers[i].status.error_message();
        EXPECT_EQ(answers[i].done.usage().cached_tokens(), 0);
        said_.push_back(Prompt(wave[i]));
        said_.back().insert(said_.back().end(), answers[i].ids.begin(), answers[i].ids.end());
      }
      waves.push_back(std::move(wave));
      expected.push_back(std::move(answers));
    }
  }

  std::vector<std::vector<v1::GenerateRequest>> waves;
  std::vector<std::vector<Generation>> expected;

 private:
  int32_t Below(int32_t bound) { return static_cast<int32_t>(random_() % bound); }
  v1::GenerateRequest RandomRequest() {
    std::vector<int32_t> prompt;
    if (!said_.empty() && Below(5) > 0) {
      prompt = said_[Below(static_cast<int32_t>(said_.size()))];
      if (Below(3) == 0) prompt.resize(1 + Below(static_cast<int32_t>(prompt.size())));
      prompt.resize(std::min<size_t>(prompt.size(), kPromptMax));
    }
    for (int i = 1 + Below(60); i > 0; --i) prompt.push_back(3 + Below(kTokens));
    v1::GenerateRequest request;
    request.mutable_tokens()->mutable_ids()->Assign(prompt.begin(), prompt.end());
    request.set_max_tokens(1 + Below(60));
    request.set_tenant(kTenants[Below(4)]);
    request.set_ignore_eos(true);
    request.set_no_drafts(Below(3) == 0);
    v1::Sampling* sampling = request.mutable_sampling();
    sampling->set_temperature(Below(2) ? 0.8f : 0);
    sampling->set_seed(random_());
    if (Below(3) == 0) sampling->set_repetition_penalty(1.2f);
    if (Below(3) == 0) sampling->set_frequency_penalty(0.5f);
    if (Below(2) == 0) request.set_logprobs(2);
    if (Below(6) == 0) request.set_prompt_logprobs(1);
    return request;
  }

  std::mt19937 random_;
  std::vector<std::vector<int32_t>> said_;
};

std::vector<std::string> Bits(const std::vector<v1::TokenProbabilities>& all, size_t skipped = 0) {
  std::vector<std::string> bits;
  for (size_t i = skipped; i < all.size(); ++i) bits.push_back(all[i].SerializeAsString());
  return bits;
}

// As if its stream had broken in the middle.
void ResumeFromTheMiddle(const Generation& whole, v1::GenerateRequest* request) {
  request->clear_prompt_logprobs();
  v1::Resume* resume = request->mutable_resume();
  for (size_t i = 0; i < whole.ids.size() / 2; ++i) {
    resume->add_tokens(whole.ids[i]);
    resume->add_routes(whole.routes[i]);
  }
  resume->set_seed(whole.start.seed());
  resume->set_model_digest(whole.start.model_digest());
  resume->set_numerics_id(whole.start.numerics_id());
}

TEST(PrefixTest, EveryBitIsThatOfNoCache) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  const Conversations conversations(seed);
  ASSERT_FALSE(::testing::Test::HasFailure());
  for (const ClusterOptions& options : std::vector<ClusterOptions>{
           {},
           {.worker_flags = {"--kv-blocks", "48"}},  // enough for three of seven
           {.workers = 2},
           {.worker_flags = {"--expert-slots", "1"}},
           {.one_process = true, .scheduler_flags = {"--decode-routing", "service"}}}) {
    SCOPED_TRACE(absl::StrCat(options.workers, " workers, ",
                              absl::StrJoin(options.worker_flags, " "), " ",
                              absl::StrJoin(options.scheduler_flags, " ")));
    Cluster cluster(options);
    cluster.AwaitReady();
    int64_t cached = 0;
    for (int w = 0; w < kWaves; ++w) {
      std::vector<v1::GenerateRequest> wave = conversations.waves[w];
      const std::vector<Generation>& expected = conversations.expected[w];
      ResumeFromTheMiddle(expected[0], &wave[0]);
      std::thread impatient([&] {
        v1::GenerateRequest request = wave.back();
        request.set_max_tokens(100);
        Generate(cluster.stub(), request, absl::Seconds(60),
                 [](int num_tokens, grpc::ClientContext& context) {
                   if (num_tokens >= 7) context.TryCancel();
                 });
      });
      const std::vector<Generation> got = RunWave(cluster, wave);
      impatient.join();
      for (size_t i = 0; i < wave.size(); ++i) {
        SCOPED_TRACE(absl::StrCat("wave ", w, " request ", i));
        ASSERT_TRUE(got[i].status.ok()) << got[i].status.error_message();
        const size_t skipped = wave[i].resume().tokens_size();
        const std::vector<int32_t>& ids = expected[i].ids;
        EXPECT_EQ(got[i].ids, std::vector<int32_t>(ids.begin() + skipped, ids.end()));
        // The service is not asked for the last token's route.
        for (size_t t = 0; t + 1 < got[i].routes.size(); ++t) {
          ASSERT_EQ(got[i].routes[t], expected[i].routes[skipped + t]) << t;
        }
        if (wave[i].has_logprobs()) {
          EXPECT_EQ(Bits(got[i].logprobs), Bits(expected[i].logprobs, skipped));
        }
        const int32_t found = got[i].done.usage().cached_tokens();
        // One token at least is computed, of what was resumed if there is such.
        EXPECT_LT(found, wave[i].tokens().ids_size() + wave[i].resume().tokens_size());
        if (wave[i].has_prompt_logprobs()) {
          EXPECT_EQ(Bits(got[i].prompt_logprobs), Bits(expected[i].prompt_logprobs));
          EXPECT_EQ(found, 0) << "what is scored is computed";
        }
        cached += found;
      }
    }
    EXPECT_GT(cached, 0);
    EXPECT_TRUE(WaitUntil(
        [&] {
          return cluster.Metric("pregate_kv_cache_usage_ratio{model=\"tiny-3\"}").value_or(1) == 0;
        },
        absl::Seconds(5)));
  }
}

TEST(PrefixTest, TheNextTurnFindsPromptAndAnswerAndAnotherTenantFindsNothing) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest first;
  for (int i = 0; i < 100; ++i) first.mutable_tokens()->add_ids(3 + i);
  first.set_max_tokens(40);
  first.set_ignore_eos(true);
  const Generation answer = Generate(cluster.stub(), first);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::GenerateRequest next = first;
  next.mutable_tokens()->mutable_ids()->Add(answer.ids.begin(), answer.ids.end());
  for (int i = 0; i < 10; ++i) next.mutable_tokens()->add_ids(50 + i);
  const Generation second = Generate(cluster.stub(), next);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  // The last of 140 tokens was drawn and never run; of the others 8 blocks are full.
  EXPECT_EQ(second.done.usage().cached_tokens(), 128);
  EXPECT_EQ(cluster.Metric("pregate_prefix_cache_hits_total{model=\"tiny-3\"}"), 128);
  EXPECT_EQ(cluster.Metric("pregate_prefix_cache_queries_total{model=\"tiny-3\"}"), 250);
  next.set_tenant("another");
  const Generation anothers = Generate(cluster.stub(), next);
  EXPECT_EQ(anothers.done.usage().cached_tokens(), 0);
  EXPECT_EQ(anothers.ids, second.ids);
}

// Three draws from one prompt that come together: two of them wait until the first has computed it.
TEST(PrefixTest, SeveralChoicesComputeTheirPromptOnce) {
  Cluster cluster({});
  cluster.AwaitReady();
  v1::GenerateRequest request;
  for (int i = 0; i < 100; ++i) request.mutable_tokens()->add_ids(3 + i);
  request.set_max_tokens(5);
  request.set_n(3);
  request.mutable_sampling()->set_temperature(1);
  const Generation all = Generate(cluster.stub(), request);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  EXPECT_EQ(cluster.Metric("pregate_prefix_cache_queries_total{model=\"tiny-3\"}"), 300);
  EXPECT_EQ(cluster.Metric("pregate_prefix_cache_hits_total{model=\"tiny-3\"}"), 192);
}

}  // namespace
}  // namespace pregate::testing
