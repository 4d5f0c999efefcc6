#include "router_service/engine/router_engine.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <stdexcept>

#include "common/router/testing/random_router.h"
#include "common/router/testing/test_devices.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router_service/engine/offline_router.h"
#include "router_service/engine/router_metrics.h"

namespace pregate {
namespace {

using testing::HasSubstr;

constexpr int kVocab = 83;

// What the engine said to one link, in order.
class Inbox {
 public:
  RouterEngine::Send sink() {
    return [this](FromRouter message) { EXPECT_TRUE(mailbox_.Push(std::move(message))); };
  }
  FromRouter Next() {
    if (queue_.empty()) {
      for (FromRouter& message : mailbox_.Wait(absl::Seconds(30))) {
        queue_.push_back(std::move(message));
      }
    }
    if (queue_.empty()) throw std::runtime_error("nothing came within 30 s");
    FromRouter message = std::move(queue_.front());
    queue_.pop_front();
    return message;
  }
  RouteResponse NextResponse() { return std::get<RouteResponse>(Next()); }
  bool IsEmpty() { return queue_.empty() && mailbox_.Wait(absl::ZeroDuration()).empty(); }

 private:
  Mailbox<FromRouter> mailbox_{100000};
  std::deque<FromRouter> queue_;
};

class RouterEngineTest : public testing::Test {
 protected:
  void Start(RouterEngineOptions options = {}) {
    options.context_tokens_max = 256;
    options.boot_id = 42;
    auto engine = RouterEngine::Start(*checkpoint_, *device_, clock_, metrics_, options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  std::vector<TokenId> RandomTokens(int count) {
    std::vector<TokenId> tokens(count);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random_() % kVocab);
    return tokens;
  }
  std::vector<ExpertId> Expected(const std::vector<TokenId>& tokens) {
    const auto device = MakeTestDevice("cpu");
    return (*OfflineRouter::Create(*checkpoint_, *device, 256))->RouteAll(tokens)->routes;
  }

  std::mt19937 random_{std::random_device{}()};
  const std::unique_ptr<InMemoryCheckpoint> checkpoint_ = MakeRandomRouter(
      RouterOnlySpec(kVocab, 6,
                     {.num_layers = 1, .num_heads = 2, .hidden = 16, .intermediate = 16}),
      5);
  const std::unique_ptr<Device> device_ = MakeTestDevice("cpu");
  SystemClock clock_;
  MetricsRegistry registry_{"test"};
  const Log log_{"router", {}, [](absl::string_view) {}};
  RouterMetrics metrics_{&registry_, &log_, 128};
  std::unique_ptr<RouterEngine> engine_;
};

TEST_F(RouterEngineTest, SaysHelloFirstAndRoutes) {
  Start();
  Inbox inbox;
  const LinkId link = engine_->Attach(inbox.sink());
  const auto hello = std::get<RouterHello>(inbox.Next());
  EXPECT_EQ(hello.boot_id, 42u);
  EXPECT_EQ(hello.num_experts, 6);
  EXPECT_EQ(hello.vocab_size, kVocab);
  EXPECT_EQ(hello.router_digest.size(), 64u);

  const std::vector<TokenId> tokens = RandomTokens(200);
  ASSERT_TRUE(engine_->Submit(link, RouteRequest{.seq_id = 9, .tokens = tokens}));
  const RouteResponse prompt = inbox.NextResponse();
  EXPECT_EQ(prompt.seq_id, 9u);
  EXPECT_EQ(prompt.error, "");
  EXPECT_EQ(prompt.routes, Expected(tokens));

  ASSERT_TRUE(engine_->Submit(link, RouteRequest{.seq_id = 9, .base = 201, .tokens = {1}}));
  const RouteResponse gap = inbox.NextResponse();
  EXPECT_TRUE(gap.gap);
  EXPECT_EQ(gap.have, 200);
}

TEST_F(RouterEngineTest, ManyLinksGetTheirOwnAnswers) {
  Start({.step_tokens_max = 32});
  constexpr int kLinks = 4, kSessions = 8;
  std::map<std::pair<int, SeqId>, std::vector<TokenId>> tokens;
  std::vector<Inbox> inboxes(kLinks);
  for (int c = 0; c < kLinks; ++c) {
    const LinkId link = engine_->Attach(inboxes[c].sink());
    inboxes[c].Next();
    for (SeqId s = 0; s < kSessions; ++s) {
      tokens[{c, s}] = RandomTokens(1 + static_cast<int>(random_() % 100));
      ASSERT_TRUE(engine_->Submit(link, RouteRequest{.seq_id = s, .tokens = tokens[{c, s}]}));
    }
  }
  for (int c = 0; c < kLinks; ++c) {
    for (int i = 0; i < kSessions; ++i) {
      const RouteResponse response = inboxes[c].NextResponse();
      EXPECT_EQ(response.routes, Expected(tokens.at({c, response.seq_id})));
    }
  }
}

TEST_F(RouterEngineTest, AMalformedRequestIsAnsweredAloneWithItsError) {
  Start();
  Inbox inbox;
  const LinkId link = engine_->Attach(inbox.sink());
  inbox.Next();
  engine_->Submit(link, RouteRequest{.seq_id = 1, .tokens = {kVocab}});
  engine_->Submit(link, RouteRequest{.seq_id = 2, .tokens = {0}});
  EXPECT_THAT(inbox.NextResponse().error, HasSubstr("tokens[0]: 83"));
  EXPECT_EQ(inbox.NextResponse().routes.size(), 1u);
  engine_->Stop(absl::InfiniteFuture());
  EXPECT_THAT(registry_.Serialize(), HasSubstr("pregate_router_errors_total{model=\"test\"} 1"));
}

TEST_F(RouterEngineTest, ADetachedSendIsNeverCalledAgainAndItsSessionsGo) {
  Start();
  Inbox survivor;
  const LinkId other = engine_->Attach(survivor.sink());
  survivor.Next();
  for (int i = 0; i < 50; ++i) {
    std::atomic<bool> gone = false;
    const LinkId link = engine_->Attach([&](FromRouter) { EXPECT_FALSE(gone); });
    for (SeqId s = 0; s < 5; ++s) {
      engine_->Submit(link, RouteRequest{.seq_id = s, .tokens = RandomTokens(30)});
    }
    engine_->Detach(link);
    gone = true;
  }
  engine_->Submit(other, RouteRequest{.seq_id = 1, .tokens = {1, 2, 3}});
  EXPECT_EQ(survivor.NextResponse().routes.size(), 3u);
  engine_->Stop(absl::InfiniteFuture());
  EXPECT_THAT(registry_.Serialize(), HasSubstr("pregate_router_sessions{model=\"test\"} 1"));
}

TEST_F(RouterEngineTest, StopAnswersWhatItHasTakenAndRefusesTheRest) {
  Start({.step_tokens_max = 4});
  Inbox inbox;
  const LinkId link = engine_->Attach(inbox.sink());
  inbox.Next();
  for (SeqId s = 0; s < 20; ++s) {
    ASSERT_TRUE(engine_->Submit(link, RouteRequest{.seq_id = s, .tokens = RandomTokens(10)}));
  }
  engine_->Stop(absl::InfiniteFuture());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(inbox.NextResponse().routes.size(), 10u);
  EXPECT_TRUE(inbox.IsEmpty());
  EXPECT_FALSE(engine_->Submit(link, RouteRequest{.seq_id = 1, .tokens = {1}}));
}

TEST_F(RouterEngineTest, TheHeartbeatGoesOnWhenNothingComes) {
  Start();
  const absl::Time before = engine_->heartbeat();
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (engine_->heartbeat() == before && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_GT(engine_->heartbeat(), before);
}

TEST_F(RouterEngineTest, RefusesLimitsThatCannotHold) {
  const auto engine =
      RouterEngine::Start(*checkpoint_, *device_, clock_, metrics_,
                          {.context_tokens_max = 1 << 20, .kv_cache_bytes = 1 << 16});
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("context_tokens_max 1048576"));
}

}  // namespace
}  // namespace pregate
