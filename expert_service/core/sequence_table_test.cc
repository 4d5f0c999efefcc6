#include "expert_service/core/sequence_table.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

SequenceAdd Add(int32_t slot, SeqId id, std::vector<TokenId> history) {
  SequenceAdd add;
  add.seq_slot = slot;
  add.seq_id = id;
  add.history = std::move(history);
  return add;
}

Row Tokens(int32_t position, std::vector<TokenId> tokens) {
  Row row;
  row.position = position;
  row.count = static_cast<int32_t>(tokens.size());
  row.tokens = std::move(tokens);
  return row;
}

TEST(SequenceTableTest, HistoryCountsAsKvOfBackboneAndReplica) {
  SequenceTable table(2);
  table.Open(Add(1, 7, {3, 4, 5}));
  EXPECT_FALSE(table.at(0).open);
  EXPECT_EQ(table.at(1).seq_id, 7u);
  EXPECT_EQ(table.at(1).length, 3);
  EXPECT_EQ(table.at(1).replica_length, 3);
}

TEST(SequenceTableTest, BlockUpdatesOverwriteAndAppend) {
  SequenceTable table(1);
  table.Open(Add(0, 1, {}));
  table.SetBlocks({0, 0, {5, 6}});
  table.SetBlocks({0, 1, {9, 8}});
  EXPECT_EQ(table.at(0).blocks, (std::vector<BlockId>{5, 9, 8}));
  EXPECT_EQ(table.at(0).capacity_tokens(), 48);
}

TEST(SequenceTableTest, CloseForgetsEverything) {
  SequenceTable table(1);
  table.Open(Add(0, 1, {2}));
  table.SetBlocks({0, 0, {5}});
  EXPECT_EQ(table.at(0).Fail("bad row").message, "bad row");
  table.Close(0);
  EXPECT_FALSE(table.at(0).failed());
  EXPECT_TRUE(table.at(0).blocks.empty());
  EXPECT_EQ(table.at(0).length, 0);
}

TEST(ReplicaFillTest, NewTokensAreFilledFromTheirFirst) {
  Sequence sequence;
  EXPECT_EQ(ReplicaFillFrom(sequence, Tokens(0, {1, 2, 3})), 0);
}

TEST(ReplicaFillTest, ASampledTokenThatComesBackNeedsNothing) {
  Sequence sequence;
  sequence.length = 3;
  sequence.replica_length = 4;
  sequence.sampled_position = 3;
  sequence.sampled_token = 9;
  EXPECT_EQ(ReplicaFillFrom(sequence, Tokens(3, {9})), 4);
  EXPECT_EQ(ReplicaFillFrom(sequence, Tokens(3, {9, 1})), 4);
}

TEST(ReplicaFillTest, AnotherTokenThanTheSampleIsFilledAgain) {
  Sequence sequence;
  sequence.length = 3;
  sequence.replica_length = 4;
  sequence.sampled_position = 3;
  sequence.sampled_token = 9;
  EXPECT_EQ(ReplicaFillFrom(sequence, Tokens(3, {8, 1})), 3);
}

TEST(ReplicaFillTest, ALateRowIsFilledAlready) {
  Sequence sequence;
  sequence.replica_length = 4;
  Row row;
  row.position = 3;
  row.count = 1;
  row.late = true;
  EXPECT_EQ(ReplicaFillFrom(sequence, row), 4);
}

}  // namespace
}  // namespace pregate
