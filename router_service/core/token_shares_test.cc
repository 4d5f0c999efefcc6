#include <algorithm>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router_service/core/route_queue.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(TokenSharesTest, GivesAllWhenTheBudgetSuffices) {
  EXPECT_THAT(TokenShares({3, 1, 2}, 6), ElementsAre(3, 1, 2));
  EXPECT_THAT(TokenShares({}, 6), IsEmpty());
}

TEST(TokenSharesTest, ServesTheShortestFirstAfterTheOldestsQuarter) {
  EXPECT_THAT(TokenShares({100, 50, 1, 60}, 64), ElementsAre(16, 47, 1, 0));
}

TEST(TokenSharesTest, NeverStarvesTheOldest) {
  EXPECT_THAT(TokenShares({8192, 1, 1, 1}, 1), ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(TokenShares({8192, 1, 1, 1}, 3), ElementsAre(1, 1, 1, 0));
}

TEST(TokenSharesTest, SpendsExactlyWhatThereIsToSpend) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<int> remaining(random() % 20);
    for (int& r : remaining) r = 1 + static_cast<int>(random() % 40);
    const int budget = 1 + static_cast<int>(random() % 100);
    const std::vector<int> shares = TokenShares(remaining, budget);
    ASSERT_EQ(shares.size(), remaining.size());
    for (size_t i = 0; i < shares.size(); ++i) {
      EXPECT_GE(shares[i], 0);
      EXPECT_LE(shares[i], remaining[i]);
    }
    const int wanted = std::accumulate(remaining.begin(), remaining.end(), 0);
    EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), 0), std::min(budget, wanted));
    if (!remaining.empty()) {
      EXPECT_GE(shares[0], 1);
    }
  }
}

}  // namespace
}  // namespace pregate
