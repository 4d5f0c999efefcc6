#include "router_service/core/session_table.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// Stores `tokens` tokens in a session and leaves it idle since `seconds`.
void Fill(SessionTable& table, const SessionKey& key, int tokens, int seconds) {
  ASSERT_TRUE(table.Reserve(key, 0, tokens));
  table.Append(key, tokens);
  table.Unpin(key, At(seconds));
}

TEST(SessionTableTest, AnUnknownSessionHasNoTokens) {
  SessionTable table(2, 4);
  EXPECT_EQ(table.NumTokens({1, 1}), 0);
  EXPECT_THAT(table.Blocks({1, 1}), SizeIs(0));
  table.Close({1, 1});
  EXPECT_EQ(table.num_free_blocks(), 4);
}

TEST(SessionTableTest, GivesExactlyTheBlocksThatTheTokensNeed) {
  SessionTable table(2, 4);
  ASSERT_TRUE(table.Reserve({1, 1}, 0, 17));
  EXPECT_THAT(table.Blocks({1, 1}), ElementsAre(0, 1));
  table.Append({1, 1}, 17);
  table.Unpin({1, 1}, At(0));
  ASSERT_TRUE(table.Reserve({1, 1}, 17, 32));
  EXPECT_THAT(table.Blocks({1, 1}), ElementsAre(0, 1));
  table.Unpin({1, 1}, At(0));
  ASSERT_TRUE(table.Reserve({1, 1}, 3, 5));
  EXPECT_THAT(table.Blocks({1, 1}), ElementsAre(0));
  EXPECT_EQ(table.NumTokens({1, 1}), 3);
  EXPECT_EQ(table.num_tokens(), 3);
}

TEST(SessionTableTest, EvictsTheLongestUnusedFirst) {
  SessionTable table(8, 3);
  Fill(table, {1, 1}, 16, 1);
  Fill(table, {1, 2}, 16, 2);
  Fill(table, {1, 3}, 16, 3);
  Fill(table, {1, 1}, 16, 4);  // used again
  ASSERT_TRUE(table.Reserve({1, 4}, 0, 17));
  EXPECT_EQ(table.NumTokens({1, 1}), 16);
  EXPECT_EQ(table.NumTokens({1, 2}), 0);
  EXPECT_EQ(table.NumTokens({1, 3}), 0);
  EXPECT_EQ(table.num_evictions(), 2);
}

TEST(SessionTableTest, EvictsForTheBoundOnSessionsToo) {
  SessionTable table(2, 100);
  Fill(table, {1, 1}, 1, 1);
  Fill(table, {1, 2}, 1, 2);
  Fill(table, {1, 3}, 1, 3);
  EXPECT_EQ(table.num_sessions(), 2);
  EXPECT_EQ(table.NumTokens({1, 1}), 0);
}

TEST(SessionTableTest, NeverEvictsAPinnedSessionAndChangesNothingWhenFull) {
  SessionTable table(8, 3);
  ASSERT_TRUE(table.Reserve({1, 1}, 0, 32));
  Fill(table, {1, 2}, 16, 1);
  EXPECT_FALSE(table.Reserve({1, 3}, 0, 17));
  EXPECT_EQ(table.NumTokens({1, 2}), 16);
  EXPECT_EQ(table.num_evictions(), 0);
  table.Unpin({1, 1}, At(2));
  EXPECT_TRUE(table.Reserve({1, 3}, 0, 17));
}

TEST(SessionTableTest, GrowingASessionNeverEvictsItself) {
  SessionTable table(8, 3);
  Fill(table, {1, 1}, 16, 1);
  Fill(table, {1, 2}, 16, 2);
  ASSERT_TRUE(table.Reserve({1, 1}, 16, 48));
  EXPECT_EQ(table.NumTokens({1, 1}), 16);
  EXPECT_EQ(table.NumTokens({1, 2}), 0);
  EXPECT_THAT(std::set<BlockId>(table.Blocks({1, 1}).begin(), table.Blocks({1, 1}).end()),
              SizeIs(3));
}

TEST(SessionTableTest, RefusesMoreThanTheBoundOfPinnedSessions) {
  SessionTable table(1, 100);
  ASSERT_TRUE(table.Reserve({1, 1}, 0, 1));
  EXPECT_FALSE(table.Reserve({1, 2}, 0, 1));
}

TEST(SessionTableTest, ExpiresWhatHasBeenIdleLongEnough) {
  SessionTable table(8, 8);
  Fill(table, {1, 1}, 16, 1);
  Fill(table, {1, 2}, 16, 2);
  EXPECT_EQ(table.OldestIdleStart(), At(1));
  table.ExpireIdle(At(1));
  EXPECT_EQ(table.NumTokens({1, 1}), 0);
  EXPECT_EQ(table.NumTokens({1, 2}), 16);
  EXPECT_EQ(table.num_expirations(), 1);
  ASSERT_TRUE(table.Reserve({1, 2}, 16, 17));
  table.ExpireIdle(At(100));
  EXPECT_EQ(table.NumTokens({1, 2}), 16) << "pinned";
  EXPECT_EQ(table.OldestIdleStart(), absl::InfiniteFuture());
}

TEST(SessionTableTest, ClosingALinkForgetsItsSessionsOnly) {
  SessionTable table(8, 8);
  Fill(table, {1, 7}, 16, 1);
  Fill(table, {2, 7}, 16, 1);
  ASSERT_TRUE(table.Reserve({1, 8}, 0, 16));
  table.CloseLink(1);
  EXPECT_EQ(table.num_sessions(), 1);
  EXPECT_EQ(table.NumTokens({2, 7}), 16);
  EXPECT_EQ(table.num_free_blocks(), 7);
  EXPECT_TRUE(table.Reserve({3, 1}, 0, 128)) << "a closed pinned session must give its blocks back";
}

}  // namespace
}  // namespace pregate
