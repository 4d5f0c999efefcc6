#include "scheduler_service/engine/route_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

#include "common/base/limits.h"
#include "sim/testing/fake_router.h"

namespace pregate::scheduler {
namespace {

constexpr absl::Duration kResend = absl::Seconds(5);

class RouteClientTest : public testing::Test, public RouterLink {
 protected:
  void Send(ToRouter message) override { sent_.push_back(std::move(message)); }

  Sequence MakeSequence(SeqId id, int32_t num_tokens) {
    Sequence s;
    s.id = id;
    s.prompt_len = num_tokens;
    for (int32_t i = 0; i < num_tokens; ++i) s.Append(i % 40, kNoRoute);
    return s;
  }
  const RouteRequest& Request(size_t i) { return std::get<RouteRequest>(sent_[i]); }
  // Answers message i as the router would.
  absl::Status Answer(size_t i) {
    return client_.OnResponse(router_.OnRequest(Request(i)), model_.num_experts, now_);
  }

  FakeModel model_;
  FakeRouter router_{model_, 1};
  std::vector<ToRouter> sent_;
  RouteClient client_{this, kResend, kRouteTokensMax};
  absl::Time now_ = absl::UnixEpoch();
};

// The sizes of the requests that a prompt is asked for in.
std::vector<int32_t> Pieces(int32_t num_tokens, int32_t piece_tokens) {
  struct Link final : RouterLink {
    void Send(ToRouter message) override { sent.push_back(std::get<RouteRequest>(message)); }
    std::vector<RouteRequest> sent;
  } link;
  RouteClient client(&link, kResend, piece_tokens);
  Sequence s;
  s.id = 1;
  for (int32_t i = 0; i < num_tokens; ++i) s.Append(i % 40, kNoRoute);
  client.OnUp(absl::UnixEpoch());
  client.Request(&s, absl::UnixEpoch());
  std::vector<int32_t> sizes;
  while (!s.all_routed() && sizes.size() < link.sent.size()) {
    const RouteRequest& r = link.sent.back();
    EXPECT_EQ(r.base, s.routed);
    sizes.push_back(static_cast<int32_t>(r.tokens.size()));
    const std::vector<ExpertId> routes(r.tokens.size(), 1);
    EXPECT_TRUE(client.OnResponse({1, r.base, routes, false, 0, ""}, 2, absl::UnixEpoch()).ok());
  }
  EXPECT_TRUE(s.all_routed());
  return sizes;
}

TEST(RoutePiecesTest, AreOfOneStepsTokensTheOddOneFirst) {
  using testing::ElementsAre;
  EXPECT_THAT(Pieces(1, 256), ElementsAre(1));
  EXPECT_THAT(Pieces(255, 256), ElementsAre(255));
  EXPECT_THAT(Pieces(256, 256), ElementsAre(256));
  EXPECT_THAT(Pieces(401, 256), ElementsAre(145, 256));
  EXPECT_THAT(Pieces(513, 256), ElementsAre(1, 256, 256));
  EXPECT_THAT(Pieces(3, 1), ElementsAre(1, 1, 1));
  EXPECT_THAT(Pieces(2 * kRouteTokensMax + 5, 1 << 20),
              ElementsAre(5, kRouteTokensMax, kRouteTokensMax));
}

TEST(RoutePiecesTest, WhatWasRoutedIsSentAgainInOneGoWithTheNextPiece) {
  struct Link final : RouterLink {
    void Send(ToRouter message) override { sent.push_back(std::get<RouteRequest>(message)); }
    std::vector<RouteRequest> sent;
  } link;
  RouteClient client(&link, kResend, 4);
  Sequence s;
  s.id = 1;
  for (int32_t i = 0; i < 40; ++i) s.Append(i, i < 33 ? 1 : kNoRoute);
  client.OnUp(absl::UnixEpoch());
  client.Request(&s, absl::UnixEpoch());
  EXPECT_EQ(link.sent[0].base, 33);
  EXPECT_EQ(link.sent[0].tokens.size(), 3u);
  ASSERT_TRUE(client.OnResponse({1, 33, {}, true, 0, ""}, 2, absl::UnixEpoch()).ok());
  EXPECT_EQ(link.sent[1].base, 0);
  EXPECT_EQ(link.sent[1].tokens.size(), 36u);
}

TEST_F(RouteClientTest, APromptsPiecesNameItsTraceAndSampledTokensDoNot) {
  client_.OnUp(now_);
  Sequence s = MakeSequence(7, 10);
  s.traceparent = "a trace";
  client_.Request(&s, now_);
  EXPECT_EQ(Request(0).traceparent, "a trace");
  ASSERT_TRUE(Answer(0).ok());
  s.Append(3, kNoRoute);
  client_.Request(&s, now_);
  EXPECT_EQ(Request(1).base, 10);
  EXPECT_EQ(Request(1).traceparent, "");
}

TEST_F(RouteClientTest, AsksAgainAfterTheRouterCameBack) {
  Sequence s = MakeSequence(1, 10);
  client_.Request(&s, now_);
  EXPECT_TRUE(sent_.empty()) << "the router is away";
  client_.OnUp(now_);
  ASSERT_EQ(sent_.size(), 1u);
  client_.OnDown();
  client_.OnUp(now_);
  ASSERT_EQ(sent_.size(), 2u);
  ASSERT_TRUE(Answer(1).ok());
  EXPECT_TRUE(s.all_routed());
  client_.OnUp(now_);
  EXPECT_EQ(sent_.size(), 2u) << "nothing is unanswered";
}

TEST_F(RouteClientTest, AGapIsFilledFromWhatTheRouterHas) {
  Sequence s = MakeSequence(1, 10);
  client_.OnUp(now_);
  client_.Request(&s, now_);
  ASSERT_TRUE(Answer(0).ok());
  const std::vector<ExpertId> routes = s.routes;
  s.Append(3, kNoRoute);
  client_.Request(&s, now_);
  EXPECT_EQ(Request(1).base, 10);
  router_.ExpireSessions();
  ASSERT_TRUE(Answer(1).ok());
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(Request(2).base, 0);
  EXPECT_EQ(Request(2).tokens.size(), 11u);
  ASSERT_TRUE(Answer(2).ok());
  EXPECT_TRUE(s.all_routed());
  EXPECT_TRUE(std::equal(routes.begin(), routes.end(), s.routes.begin()));
}

TEST_F(RouteClientTest, SilenceIsAskedAgainUntilItIsHopeless) {
  Sequence s = MakeSequence(1, 10);
  client_.OnUp(now_);
  client_.Request(&s, now_);
  EXPECT_TRUE(client_.OnTick(now_ + kResend / 2).empty());
  EXPECT_EQ(sent_.size(), 1u);
  for (int i = 1; i < RouteClient::kSendsMax; ++i)
    EXPECT_TRUE(client_.OnTick(now_ += kResend).empty());
  EXPECT_EQ(sent_.size(), static_cast<size_t>(RouteClient::kSendsMax));
  EXPECT_THAT(client_.OnTick(now_ += kResend), testing::ElementsAre(1));
}

TEST_F(RouteClientTest, NonsenseChangesNothing) {
  Sequence s = MakeSequence(1, 4);
  client_.OnUp(now_);
  client_.Request(&s, now_);
  const auto respond = [&](RouteResponse r) {
    EXPECT_TRUE(client_.OnResponse(r, model_.num_experts, now_).ok());
  };
  respond({99, 0, {1, 1, 1, 1}, false, 0, ""});  // an unknown session
  respond({1, 2, {1, 1}, false, 0, ""});         // not what was asked
  respond({1, 0, {1, 1}, false, 0, ""});         // too few
  respond({1, 0, {1, 1, 1, 5}, false, 0, ""});   // no such expert
  respond({1, 0, {}, true, 3, ""});              // a gap above the base
  respond({1, 0, {}, true, -1, ""});
  EXPECT_EQ(s.routed, 0);
  EXPECT_EQ(sent_.size(), 1u);
}

TEST_F(RouteClientTest, ARouterThatKeepsLosingIsNotAskedForEver) {
  Sequence s = MakeSequence(1, 4);
  client_.OnUp(now_);
  client_.Request(&s, now_);
  ASSERT_TRUE(Answer(0).ok());
  s.Append(3, kNoRoute);
  client_.Request(&s, now_);
  // Gap to 0, an answer for the tokens below, a request at 4, gap to 0 ...
  for (int i = 0; i < 1000; ++i) {
    const RouteRequest request = std::get<RouteRequest>(sent_.back());
    RouteResponse response;
    response.seq_id = 1;
    response.base = request.base;
    response.gap = request.base > 0;
    if (!response.gap) response.routes.assign(4, 1);
    if (response.gap || request.tokens.size() == 4) {
      ASSERT_TRUE(client_.OnResponse(response, model_.num_experts, now_).ok());
    }
  }
  EXPECT_LT(sent_.size(), static_cast<size_t>(RouteClient::kSendsMax) + 3);
}

TEST_F(RouteClientTest, AMalformedRequestIsAnError) {
  Sequence s = MakeSequence(1, 4);
  client_.OnUp(now_);
  client_.Request(&s, now_);
  const absl::Status status =
      client_.OnResponse({1, 0, {}, false, 0, "token 7"}, model_.num_experts, now_);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
}

TEST_F(RouteClientTest, AsksARouterThatAnswersPingsWhetherItLives) {
  const absl::Duration interval = absl::Milliseconds(kRouterPingMs);
  client_.OnUp(now_, /*answers_pings=*/true);
  for (int i = 0; i < 10; ++i) {
    client_.OnTick(now_);
    client_.OnTick(now_);
    EXPECT_EQ(sent_.size(), size_t(i + 1));
    EXPECT_TRUE(std::holds_alternative<RouterPing>(sent_.back()));
    EXPECT_EQ(client_.LastHeard(now_), now_ - i * interval) << "it has not answered";
    now_ += interval;
  }
  client_.OnHeard(now_);
  EXPECT_EQ(client_.LastHeard(now_ + interval), now_);
  client_.OnDown();
  EXPECT_TRUE(client_.OnTick(now_ + interval).empty());
  EXPECT_EQ(sent_.size(), 10u);
}

TEST_F(RouteClientTest, DoesNotPingARouterOfAnOlderVersion) {
  client_.OnUp(now_);
  client_.OnTick(now_ + absl::Seconds(10));
  EXPECT_TRUE(sent_.empty());
  EXPECT_EQ(client_.LastHeard(now_ + absl::Seconds(10)), now_ + absl::Seconds(10));
}

TEST_F(RouteClientTest, ClosesTheSessionsThatItOpened) {
  Sequence s = MakeSequence(1, 4);
  client_.OnUp(now_);
  client_.Close(1);
  EXPECT_TRUE(sent_.empty());
  client_.Request(&s, now_);
  client_.Close(1);
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(std::get<CloseSession>(sent_[1]).seq_id, 1u);
}

}  // namespace
}  // namespace pregate::scheduler
