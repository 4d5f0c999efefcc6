#include "expert_service/core/exchange_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pregate {
namespace {

Placement RoundRobin(int num_experts, int world_size) {
  Placement placement;
  for (int e = 0; e < num_experts; ++e) placement.ranks.push_back({e % world_size});
  return placement;
}

TEST(ExchangePlanTest, OneRankIsAStableSortByExpert) {
  const std::vector<int32_t> homes(6, 0);
  const std::vector<ExpertId> routes = {2, 0, 2, 1, 0, 2};
  const auto plan = MakeExchangePlan(homes, routes, RoundRobin(4, 1), 1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->order[0], (std::vector<int32_t>{1, 4, 3, 0, 2, 5}));
  EXPECT_EQ(plan->group_offsets[0], (std::vector<int32_t>{0, 2, 3, 6, 6}));
  EXPECT_EQ(plan->group_order[0], (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(plan->count(0, 0), 6);
}

TEST(ExchangePlanTest, AReplicaAtTheHomeRankIsPreferred) {
  Placement placement;
  placement.ranks = {{0, 1}, {1}};
  const auto plan = MakeExchangePlan({0, 1, 0}, {0, 0, 1}, placement, 2);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->counts, (std::vector<int32_t>{1, 1, 0, 1}));
}

TEST(ExchangePlanTest, NoTokensIsAPlanOfZeros) {
  const auto plan = MakeExchangePlan({}, {}, RoundRobin(3, 2), 2);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->counts, (std::vector<int32_t>(4, 0)));
  EXPECT_EQ(plan->group_offsets[1], (std::vector<int32_t>(4, 0)));
}

TEST(ExchangePlanTest, NamesWhatIsOutOfRange) {
  const Placement two = RoundRobin(2, 1);
  EXPECT_EQ(MakeExchangePlan({0}, {2}, two, 1).status().message(), "token 0: route 2 of 2 experts");
  EXPECT_EQ(MakeExchangePlan({0, 1}, {0, 0}, two, 1).status().message(),
            "token 1: home rank 1 of 1");
  EXPECT_FALSE(MakeExchangePlan({0}, {}, two, 1).ok());
  Placement hole;
  hole.ranks = {{0}, {}};
  EXPECT_EQ(MakeExchangePlan({}, {}, hole, 1).status().message(),
            "placement: no rank holds expert 1");
}

// Sends each token through dispatch and grouping and finds it at a rank that holds its expert,
// once.
void CheckTravels(const ExchangePlan& plan, const std::vector<int32_t>& homes,
                  const std::vector<ExpertId>& routes, const Placement& placement) {
  std::vector<std::vector<int32_t>> own(plan.world_size);  // a source's tokens, in plan order
  for (size_t t = 0; t < homes.size(); ++t) own[homes[t]].push_back(static_cast<int32_t>(t));

  std::vector<int> arrivals(homes.size());
  for (int32_t d = 0; d < plan.world_size; ++d) {
    std::vector<int32_t> received;
    for (int32_t s = 0; s < plan.world_size; ++s) {
      ASSERT_EQ(plan.recv_offset(d, s), static_cast<int32_t>(received.size()));
      ASSERT_EQ(plan.send_offset(s, d + 1) - plan.send_offset(s, d), plan.count(s, d));
      for (int32_t i = plan.send_offset(s, d); i < plan.send_offset(s, d + 1); ++i) {
        received.push_back(own[s][plan.order[s][i]]);
      }
    }
    ASSERT_EQ(plan.group_order[d].size(), received.size());
    for (size_t e = 0; e < placement.ranks.size(); ++e) {
      for (int32_t i = plan.group_offsets[d][e]; i < plan.group_offsets[d][e + 1]; ++i) {
        const int32_t token = received[plan.group_order[d][i]];
        ++arrivals[token];
        EXPECT_EQ(routes[token], static_cast<ExpertId>(e));
        const auto& ranks = placement.ranks[e];
        EXPECT_TRUE(std::find(ranks.begin(), ranks.end(), d) != ranks.end());
      }
    }
  }
  for (int count : arrivals) EXPECT_EQ(count, 1);
}

TEST(ExchangePlanTest, EveryTokenReachesItsExpertOnceForRandomSteps) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int round = 0; round < 200; ++round) {
    const int world_size = 1 + rng() % 5, num_experts = 1 + rng() % 9, num_tokens = rng() % 60;
    Placement placement;
    placement.ranks.resize(num_experts);
    for (auto& ranks : placement.ranks) {
      for (int r = 0; r < world_size; ++r) {
        if (rng() % 2) ranks.push_back(r);
      }
      if (ranks.empty()) ranks.push_back(rng() % world_size);
    }
    std::vector<int32_t> homes(num_tokens);
    std::vector<ExpertId> routes(num_tokens);
    for (auto& home : homes) home = rng() % world_size;
    for (auto& route : routes) route = rng() % num_experts;
    const auto plan = MakeExchangePlan(homes, routes, placement, world_size);
    ASSERT_TRUE(plan.ok()) << plan.status();
    CheckTravels(*plan, homes, routes, placement);
  }
}

}  // namespace
}  // namespace pregate
