#include "scheduler_service/core/fair_turns.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace pregate::scheduler {
namespace {

TEST(FairTurnsTest, OneConnectionIsServedInOrder) {
  FairTurns turns;
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(turns.Next(7), i);
}

TEST(FairTurnsTest, ANewConnectionWaitsForOneRequestOfAnother) {
  FairTurns turns;
  for (int i = 0; i < 300; ++i) turns.Next(1);
  turns.Entered(15);
  EXPECT_EQ(turns.Next(2), 15);
  EXPECT_EQ(turns.Next(2), 16);
}

TEST(FairTurnsTest, IdlenessEarnsNothing) {
  FairTurns turns;
  turns.Next(2);
  for (int i = 0; i < 100; ++i) turns.Entered(turns.Next(1));
  EXPECT_EQ(turns.Next(2), 99);
}

// Whatever arrives when: among connections that all wait, none is served more than two requests
// ahead of another.
TEST(FairTurnsTest, WhoWaitsIsServedEquallyOften) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    FairTurns turns;
    std::set<std::pair<int64_t, int>> waiting;  // turn, number
    std::map<int, uint64_t> connection_of;
    std::map<uint64_t, int> waits, served;
    int number = 0;
    const uint64_t num_connections = 2 + random() % 100;
    const auto arrive = [&](uint64_t connection) {
      waiting.emplace(turns.Next(connection), number);
      connection_of[number++] = connection;
      ++waits[connection];
    };
    for (int i = 0; i < 300; ++i) arrive(random() % num_connections);
    for (int step = 0; step < 2000 && !waiting.empty(); ++step) {
      // Counted anew whenever somebody has nothing that waits: equal shares are for who asks.
      if (waits.size() != num_connections ||
          std::any_of(waits.begin(), waits.end(), [](const auto& w) { return w.second == 0; })) {
        served.clear();
      }
      const auto [turn, first] = *waiting.begin();
      waiting.erase(waiting.begin());
      turns.Entered(turn);
      --waits[connection_of[first]];
      ++served[connection_of[first]];
      arrive(random() % 4 == 0 ? random() % num_connections : connection_of[first]);
      int most = 0, least = INT32_MAX;
      for (uint64_t c = 0; c < num_connections; ++c) {
        most = std::max(most, served[c]);
        least = std::min(least, served[c]);
      }
      ASSERT_LE(most - least, 2) << "round " << round << ", step " << step;
    }
  }
}

}  // namespace
}  // namespace pregate::scheduler
