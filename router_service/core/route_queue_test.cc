#include "router_service/core/route_queue.h"

#include <map>
#include <random>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

RouterLimits SomeLimits() {
  return {.vocab_size = 1000,
          .context_tokens_max = 256,
          .sessions_max = 16,
          .kv_blocks = 64,
          .step_tokens_max = 16,
          .requests_max = 64,
          .session_idle_max = absl::Seconds(100)};
}

// Stands in for the network: a route depends on the session's whole prefix, read back through block
// tables, so a wrong position, block table or truncation gives a wrong route.
class FakeNet {
 public:
  static ExpertId RouteOf(absl::Span<const TokenId> prefix) {
    uint32_t hash = 17;
    for (TokenId token : prefix) hash = hash * 31 + static_cast<uint32_t>(token);
    return static_cast<ExpertId>(hash % 1009);
  }

  std::vector<ExpertId> Run(const RouteStep& step) {
    std::vector<ExpertId> routes;
    for (const RouteRow& row : step.rows) {
      for (size_t i = 0; i < row.tokens.size(); ++i) {
        const int position = row.position + static_cast<int>(i);
        At(row, position) = row.tokens[i];
        std::vector<TokenId> prefix;
        for (int p = 0; p <= position; ++p) prefix.push_back(At(row, p));
        routes.push_back(RouteOf(prefix));
      }
    }
    return routes;
  }

 private:
  TokenId& At(const RouteRow& row, int position) {
    return kv_[{row.blocks.at(position / kKvBlockTokens), position % kKvBlockTokens}];
  }
  std::map<std::pair<BlockId, int>, TokenId> kv_;
};

// Runs steps until nothing is left to do.
std::vector<RouteAnswer> RunAll(RouteQueue& queue, FakeNet& net, absl::Time now) {
  std::vector<RouteAnswer> answers;
  while (queue.HasWork()) {
    RouteStep step = queue.Plan();
    std::vector<RouteAnswer> routed = queue.Commit(step, net.Run(step), now);
    answers.insert(answers.end(), step.answers.begin(), step.answers.end());
    answers.insert(answers.end(), routed.begin(), routed.end());
  }
  return answers;
}

std::vector<ExpertId> RoutesOf(std::vector<TokenId> tokens, int base = 0) {
  std::vector<ExpertId> routes;
  for (size_t n = base + 1; n <= tokens.size(); ++n) {
    routes.push_back(FakeNet::RouteOf(absl::MakeConstSpan(tokens).subspan(0, n)));
  }
  return routes;
}

TEST(RouteQueueTest, RoutesAPromptOverSeveralStepsAndAnswersOnce) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  std::vector<TokenId> tokens(40);
  for (int i = 0; i < 40; ++i) tokens[i] = i * 7 % 1000;
  EXPECT_FALSE(queue.Submit(1, {.seq_id = 5, .tokens = tokens}, At(0)).has_value());
  const auto answers = RunAll(queue, net, At(3));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].link, 1u);
  EXPECT_EQ(answers[0].submitted, At(0));
  EXPECT_EQ(answers[0].response.seq_id, 5u);
  EXPECT_EQ(answers[0].response.routes, RoutesOf(tokens));
  EXPECT_EQ(queue.sessions().num_tokens(), 40);
}

TEST(RouteQueueTest, AnswersGapsWithWhatTheSessionHas) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  queue.Submit(1, {.seq_id = 5, .tokens = {1, 2, 3}}, At(0));
  RunAll(queue, net, At(0));
  queue.Submit(1, {.seq_id = 5, .base = 4, .tokens = {9}}, At(1));
  queue.Submit(1, {.seq_id = 6, .base = 2, .tokens = {9}}, At(1));
  const auto answers = RunAll(queue, net, At(1));
  ASSERT_THAT(answers, SizeIs(2));
  EXPECT_TRUE(answers[0].response.gap);
  EXPECT_EQ(answers[0].response.have, 3);
  EXPECT_EQ(answers[0].response.base, 4);
  EXPECT_THAT(answers[0].response.routes, IsEmpty());
  EXPECT_TRUE(answers[1].response.gap);
  EXPECT_EQ(answers[1].response.have, 0);
  EXPECT_EQ(queue.num_gaps(), 2);
  EXPECT_EQ(queue.sessions().num_sessions(), 1) << "a gap opens no session";
}

TEST(RouteQueueTest, TruncatesAndRecomputesBelowWhatItHas) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  queue.Submit(1, {.seq_id = 5, .tokens = {1, 2, 3, 4}}, At(0));
  queue.Submit(1, {.seq_id = 5, .base = 2, .tokens = {8, 9, 10}}, At(0));
  queue.Submit(1, {.seq_id = 5, .base = 2, .tokens = {8, 9, 10}}, At(0));  // the same again
  const auto answers = RunAll(queue, net, At(0));
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_EQ(answers[1].response.routes, RoutesOf({1, 2, 8, 9, 10}, 2));
  EXPECT_EQ(answers[2].response.routes, answers[1].response.routes);
}

TEST(RouteQueueTest, SessionsOfTwoLinksNeverMeet) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  queue.Submit(1, {.seq_id = 5, .tokens = {1, 2}}, At(0));
  queue.Submit(2, {.seq_id = 5, .base = 2, .tokens = {3}}, At(0));
  const auto answers = RunAll(queue, net, At(0));
  ASSERT_THAT(answers, SizeIs(2));
  EXPECT_EQ(answers[0].link, 2u);
  EXPECT_TRUE(answers[0].response.gap);
}

TEST(RouteQueueTest, RefusesMalformedAndTooManyRequests) {
  RouterLimits limits = SomeLimits();
  limits.requests_max = 1;
  RouteQueue queue(limits);
  const auto malformed = queue.Submit(1, {.seq_id = 5, .base = 7, .tokens = {1000}}, At(0));
  ASSERT_TRUE(malformed.has_value());
  EXPECT_EQ(malformed->seq_id, 5u);
  EXPECT_EQ(malformed->base, 7);
  EXPECT_EQ(malformed->error, "tokens[0]: 1000 is not below the vocabulary of 1000");
  EXPECT_FALSE(queue.Submit(1, {.seq_id = 5, .tokens = {1}}, At(0)).has_value());
  const auto too_many = queue.Submit(1, {.seq_id = 6, .tokens = {1}}, At(0));
  ASSERT_TRUE(too_many.has_value());
  EXPECT_EQ(too_many->error, "requests: 1 are not answered yet, the limit is 1");
}

TEST(RouteQueueTest, ASampledTokenDoesNotWaitForALongPrompt) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  queue.Submit(1, {.seq_id = 1, .tokens = std::vector<TokenId>(200, 3)}, At(0));
  queue.Submit(1, {.seq_id = 2, .tokens = {1}}, At(0));
  const RouteStep step = queue.Plan();
  EXPECT_EQ(step.num_tokens, 16);
  const auto answers = queue.Commit(step, net.Run(step), At(0));
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].response.seq_id, 2u);
}

TEST(RouteQueueTest, ClosedSessionsAndLinksAreNotAnswered) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  queue.Submit(1, {.seq_id = 1, .tokens = std::vector<TokenId>(200, 3)}, At(0));
  queue.Submit(1, {.seq_id = 2, .tokens = {1}}, At(0));
  queue.Submit(2, {.seq_id = 1, .tokens = {1}}, At(0));
  const RouteStep step = queue.Plan();
  queue.Commit(step, net.Run(step), At(0));
  queue.Close(1, 1);
  EXPECT_FALSE(queue.HasWork());
  queue.Submit(2, {.seq_id = 3, .tokens = {1}}, At(0));
  queue.CloseLink(2);
  EXPECT_FALSE(queue.HasWork());
  EXPECT_EQ(queue.sessions().num_sessions(), 1);
  EXPECT_EQ(queue.sessions().num_tokens(), 1);
}

TEST(RouteQueueTest, WaitsForBlocksRatherThanFail) {
  RouterLimits limits = SomeLimits();
  limits.kv_blocks = 16;  // one full context
  RouteQueue queue(limits);
  FakeNet net;
  const std::vector<TokenId> first(256, 3), second(200, 4);
  queue.Submit(1, {.seq_id = 1, .tokens = first}, At(0));
  queue.Submit(1, {.seq_id = 2, .tokens = second}, At(0));
  const auto answers = RunAll(queue, net, At(0));
  ASSERT_THAT(answers, SizeIs(2));
  EXPECT_EQ(answers[0].response.routes, RoutesOf(first));
  EXPECT_EQ(answers[1].response.routes, RoutesOf(second));
  EXPECT_EQ(queue.sessions().num_evictions(), 1);
}

TEST(RouteQueueTest, ExpiresIdleSessions) {
  RouteQueue queue(SomeLimits());
  FakeNet net;
  EXPECT_EQ(queue.NextExpiry(), absl::InfiniteFuture());
  queue.Submit(1, {.seq_id = 1, .tokens = {1}}, At(0));
  RunAll(queue, net, At(5));
  EXPECT_EQ(queue.NextExpiry(), At(105));
  queue.ExpireIdle(At(104));
  EXPECT_EQ(queue.sessions().num_sessions(), 1);
  queue.ExpireIdle(At(105));
  EXPECT_EQ(queue.sessions().num_sessions(), 0);
}

// A client as the scheduler is one: it knows its tokens, sends from where it believes the router to
// be, and on a gap sends again from what the router has.
class RandomClients {
 public:
  RandomClients(uint32_t seed, const RouterLimits& limits)
      : random_(seed), limits_(limits), queue_(limits) {}

  void Run(int num_ops) {
    for (int i = 0; i < num_ops; ++i) {
      now_ += absl::Seconds(Below(4));
      RandomOp();
      CheckInvariants();
    }
    while (queue_.HasWork()) Step();
    EXPECT_TRUE(asked_.empty()) << asked_.size() << " requests were never answered";
    EXPECT_GT(num_routed_, 0);
  }
  int64_t num_gaps() const { return queue_.num_gaps(); }
  int64_t num_evictions() const { return queue_.sessions().num_evictions(); }

 private:
  using Key = std::pair<LinkId, SeqId>;
  struct Asked {
    int base;
    std::vector<TokenId> tokens;
  };

  int Below(int n) { return static_cast<int>(random_() % n); }

  void RandomOp() {
    const Key key{1 + Below(2), 1 + Below(6)};
    switch (Below(12)) {
      case 0:
        queue_.Close(key.first, key.second);
        Forget([&](const Key& k) { return k == key; });
        break;
      case 1:
        if (Below(4) != 0) break;
        queue_.CloseLink(key.first);
        Forget([&](const Key& k) { return k.first == key.first; });
        break;
      case 2:
        queue_.ExpireIdle(now_);
        break;
      case 3:
      case 4:
      case 5:
        Ask(key);
        break;
      default:
        Step();
    }
  }

  void Ask(const Key& key) {
    std::vector<TokenId>& believed = believed_[key];
    const int have = static_cast<int>(believed.size());
    const int base = Below(3) == 0 ? Below(have + 3) : have;
    const int count = 1 + Below(Below(3) == 0 ? 60 : 4);
    if (base + count > limits_.context_tokens_max) return;
    std::vector<TokenId> tokens(count);
    for (TokenId& token : tokens) token = Below(limits_.vocab_size);
    asked_[key].push_back({base, tokens});
    EXPECT_FALSE(
        queue_.Submit(key.first, {.seq_id = key.second, .base = base, .tokens = tokens}, now_));
    if (base <= have) {
      believed.resize(base);
      believed.insert(believed.end(), tokens.begin(), tokens.end());
    }
  }

  void Step() {
    RouteStep step = queue_.Plan();
    EXPECT_LE(step.num_tokens, limits_.step_tokens_max);
    const auto routed = queue_.Commit(step, net_.Run(step), now_);
    for (const RouteAnswer& answer : step.answers) Check(answer);
    for (const RouteAnswer& answer : routed) Check(answer);
  }

  void Check(const RouteAnswer& answer) {
    const Key key{answer.link, answer.response.seq_id};
    auto& asked = asked_[key];
    ASSERT_FALSE(asked.empty()) << "an answer to nothing";
    const Asked request = asked.front();
    asked.erase(asked.begin());
    if (asked.empty()) asked_.erase(key);
    std::vector<TokenId>& stored = stored_[key];
    ASSERT_EQ(answer.response.base, request.base);
    ASSERT_EQ(answer.response.error, "");
    if (answer.response.gap) {
      EXPECT_LT(answer.response.have, request.base);
      // An idle session may have been evicted or expired since; else it is what was routed.
      EXPECT_THAT(answer.response.have, testing::AnyOf(0, static_cast<int>(stored.size())));
      stored.resize(answer.response.have);
      believed_[key] = stored;
      return;
    }
    ASSERT_LE(request.base, static_cast<int>(stored.size()));
    stored.resize(request.base);
    stored.insert(stored.end(), request.tokens.begin(), request.tokens.end());
    EXPECT_EQ(answer.response.routes, RoutesOf(stored, request.base));
    num_routed_ += static_cast<int>(answer.response.routes.size());
  }

  template <typename Matches>
  void Forget(Matches matches) {
    for (auto* map : {&believed_, &stored_}) {
      std::erase_if(*map, [&](const auto& entry) { return matches(entry.first); });
    }
    std::erase_if(asked_, [&](const auto& entry) { return matches(entry.first); });
  }

  void CheckInvariants() {
    const SessionTable& sessions = queue_.sessions();
    EXPECT_LE(sessions.num_sessions(), limits_.sessions_max);
    int64_t tokens = 0;
    std::map<BlockId, Key> owner;
    for (LinkId c = 1; c <= 2; ++c) {
      for (SeqId s = 1; s <= 6; ++s) {
        tokens += sessions.NumTokens({c, s});
        for (BlockId block : sessions.Blocks({c, s})) {
          EXPECT_TRUE(owner.emplace(block, Key{c, s}).second)
              << "block " << block << " has two owners";
        }
      }
    }
    EXPECT_EQ(tokens, sessions.num_tokens());
    EXPECT_EQ(static_cast<int>(owner.size()) + sessions.num_free_blocks(), limits_.kv_blocks);
  }

  std::mt19937 random_;
  const RouterLimits limits_;
  RouteQueue queue_;
  FakeNet net_;
  absl::Time now_ = At(0);
  std::map<Key, std::vector<TokenId>>
      believed_;                                // what the client thinks that the session will hold
  std::map<Key, std::vector<TokenId>> stored_;  // what answers so far say that it holds
  std::map<Key, std::vector<Asked>> asked_;
  int num_routed_ = 0;
};

TEST(RouteQueuePropertyTest, AnyInterleavingAgreesWithTheNaiveModel) {
  int64_t num_gaps = 0, num_evictions = 0;
  for (int trial = 0; trial < 40; ++trial) {
    const uint32_t seed = std::random_device{}();
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RouterLimits limits = SomeLimits();
    limits.requests_max = 100000;
    limits.context_tokens_max = 128;
    if (trial % 2 == 1) {  // under pressure
      limits.kv_blocks = 8 + trial / 4;
      limits.sessions_max = 4;
      limits.session_idle_max = absl::Seconds(20);
    }
    RandomClients clients(seed, limits);
    clients.Run(400);
    num_gaps += clients.num_gaps();
    num_evictions += clients.num_evictions();
    if (HasFailure()) return;
  }
  EXPECT_GT(num_gaps, 0);
  EXPECT_GT(num_evictions, 0);
}

}  // namespace
}  // namespace pregate
