#include "expert_service/core/plan_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace pregate {
namespace {

using ::testing::HasSubstr;

StepLimits Limits() {
  StepLimits limits;
  limits.seq_slots = 4;
  limits.step_tokens = 32;
  limits.context_tokens = 64;
  limits.kv_blocks = 10;
  limits.vocab_size = 100;
  limits.num_experts = 3;
  limits.num_layers = 2;
  limits.logprobs_max = 5;
  limits.has_replica = true;
  return limits;
}

// Slot 1 is open: 5 tokens long, room for 16, the sample at position 5 is token 42.
SequenceTable Table() {
  SequenceTable table(4);
  SequenceAdd add;
  add.seq_slot = 1;
  add.seq_id = 77;
  add.history = {1, 2, 3, 4, 5};
  table.Open(add);
  table.SetBlocks({1, 0, {9}});
  table.at(1).sampled_position = 5;
  table.at(1).sampled_token = 42;
  return table;
}

Row KnownRow() {
  Row row;
  row.seq_slot = 1;
  row.position = 5;
  row.count = 2;
  row.tokens = {42, 43};
  row.routes = {0, 2};
  row.emit = Emit::kSample;
  return row;
}

Row LateRow() {
  Row row;
  row.seq_slot = 1;
  row.position = 5;
  row.count = 1;
  row.late = true;
  row.emit = Emit::kSample;
  return row;
}

TEST(StepOrderTest, StepsFollowOneAnother) {
  StepPlan plan;
  plan.epoch = 3;
  plan.step_id = 8;
  EXPECT_TRUE(CheckStepOrder(plan, 3, 7).ok());
  EXPECT_THAT(CheckStepOrder(plan, 3, 5).message(), HasSubstr("step_id 8 follows 5"));
  EXPECT_THAT(CheckStepOrder(plan, 3, 8).message(), HasSubstr("a new epoch is needed"));
  EXPECT_THAT(CheckStepOrder(plan, 4, 7).message(), HasSubstr("epoch 3 in epoch 4"));
}

TEST(PlanCheckTest, TakesAPlanWithoutRows) { EXPECT_TRUE(CheckPlan({}, Limits(), Table()).ok()); }

TEST(PlanCheckTest, DropsApplyBeforeAdds) {
  StepPlan plan;
  plan.drop = {1};
  plan.add.emplace_back().seq_slot = 1;
  plan.blocks.push_back({1, 0, {0}});
  plan.rows.push_back(KnownRow());
  EXPECT_TRUE(CheckPlan(plan, Limits(), Table()).ok()) << CheckPlan(plan, Limits(), Table());
}

struct BadPlan {
  const char* name;
  std::function<void(StepPlan&)> corrupt;
  const char* message;
};

TEST(PlanCheckTest, RefusesAsAWholeWhatConfusesSlots) {
  const std::vector<BadPlan> cases = {
      {"drop of a closed slot", [](StepPlan& p) { p.drop = {0}; }, "drop names slot 0"},
      {"drop twice",
       [](StepPlan& p) {
         p.drop = {1, 1};
       },
       "drop names slot 1"},
      {"drop out of range", [](StepPlan& p) { p.drop = {4}; }, "drop is 4"},
      {"negative drop", [](StepPlan& p) { p.drop = {-1}; }, "drop is -1"},
      {"add to an open slot", [](StepPlan& p) { p.add.emplace_back().seq_slot = 1; },
       "seq_slot 1 is taken"},
      {"add twice", [](StepPlan& p) { p.add.resize(2); }, "seq_slot 0 is taken"},
      {"add out of range", [](StepPlan& p) { p.add.emplace_back().seq_slot = 1 << 30; },
       "add.seq_slot"},
      {"home of no member", [](StepPlan& p) { p.add.emplace_back().home_rank = 5; },
       "add.home_rank is 5"},
      {"blocks of a closed slot",
       [](StepPlan& p) {
         p.blocks.push_back({2, 0, {1}});
       },
       "blocks.seq_slot"},
      {"row of a closed slot", [](StepPlan& p) { p.rows.emplace_back().count = 1; },
       "rows.seq_slot names slot 0"},
      {"row of a dropped slot",
       [](StepPlan& p) {
         p.drop = {1};
         p.rows.push_back(KnownRow());
       },
       "rows.seq_slot names slot 1"},
      {"empty row",
       [](StepPlan& p) {
         p.rows.push_back(KnownRow());
         p.rows[0].count = 0;
       },
       "rows.count is 0"},
      {"too many tokens",
       [](StepPlan& p) {
         p.rows.push_back(KnownRow());
         p.rows[0].count = 33;
       },
       "is 33, must be at most 32"},
      {"counts that overflow",
       [](StepPlan& p) {
         p.rows.assign(3, KnownRow());
         for (Row& row : p.rows)
           row.count = std::numeric_limits<int32_t>::max(), row.emit = Emit::kNone;
       },
       "at most 32"},
      {"unknown emit",
       [](StepPlan& p) {
         p.rows.push_back(KnownRow());
         p.rows[0].emit = static_cast<Emit>(9);
       },
       "rows.emit is 9"},
      {"row after the sampling one", [](StepPlan& p) { p.rows.assign(2, KnownRow()); },
       "after the one that samples"},
      {"wanted layer",
       [](StepPlan& p) {
         p.wanted = {{0, {{2, 0}}, 0}};
       },
       "wanted.units.layer is 2"},
      {"wanted expert",
       [](StepPlan& p) {
         p.wanted = {{0, {{0, 3}}, 0}};
       },
       "wanted.units.expert is 3"},
      {"load_first",
       [](StepPlan& p) {
         p.wanted = {{0, {{0, 0}}, 2}};
       },
       "load_first is 2"},
  };
  for (const BadPlan& bad : cases) {
    StepPlan plan;
    bad.corrupt(plan);
    EXPECT_THAT(CheckPlan(plan, Limits(), Table()).message(), HasSubstr(bad.message)) << bad.name;
  }
}

TEST(RowCheckTest, TakesKnownAndLateRows) {
  EXPECT_TRUE(CheckRow(KnownRow(), Limits(), Table().at(1)).ok());
  EXPECT_TRUE(CheckRow(LateRow(), Limits(), Table().at(1)).ok());
}

struct BadRow {
  const char* name;
  std::function<void(Row&)> corrupt;
  const char* message;
};

TEST(RowCheckTest, NamesFieldAndValue) {
  const std::vector<BadRow> cases = {
      {"gap", [](Row& r) { r.position = 6; }, "position is 6, must be the sequence's length 5"},
      {"beyond the context", [](Row& r) { r.count = 60; }, "within the context of 64"},
      {"beyond its blocks", [](Row& r) { r.count = 11; }, "has 1 blocks of 16"},
      {"tokens missing", [](Row& r) { r.tokens.pop_back(); }, "the size of tokens is 1"},
      {"token", [](Row& r) { r.tokens[1] = 100; }, "tokens[1] is 100"},
      {"negative token", [](Row& r) { r.tokens[0] = -1; }, "tokens[0] is -1"},
      {"routes missing", [](Row& r) { r.routes.clear(); }, "the size of routes is 0"},
      {"route", [](Row& r) { r.routes[0] = 3; }, "routes[0] is 3"},
      {"unknown route", [](Row& r) { r.routes[0] = kNoRoute; }, "routes[0] is -1"},
      {"targets",
       [](Row& r) {
         r.targets = {1, 2};
       },
       "the size of targets is 2"},
      {"target",
       [](Row& r) {
         r.emit = Emit::kScore;
         r.targets = {1, 200};
       },
       "targets[1] is 200"},
      {"logprobs", [](Row& r) { r.logprobs_k = 6; }, "logprobs_k is 6"},
      {"negative logprobs", [](Row& r) { r.logprobs_k = -1; }, "logprobs_k is -1"},
      {"logprobs of no sample",
       [](Row& r) {
         r.emit = Emit::kNone;
         r.logprobs_k = 1;
       },
       "logprobs_k is 1"},
  };
  for (const BadRow& bad : cases) {
    Row row = KnownRow();
    bad.corrupt(row);
    EXPECT_THAT(CheckRow(row, Limits(), Table().at(1)).message(), HasSubstr(bad.message))
        << bad.name;
  }
}

TEST(RowCheckTest, ASampleNeedsABlockOfItsOwn) {
  Row row = KnownRow();
  row.count = 11;
  row.tokens.assign(11, 1);
  row.routes.assign(11, 0);
  EXPECT_THAT(CheckRow(row, Limits(), Table().at(1)).message(), HasSubstr("needs 17 tokens"));
  row.emit = Emit::kNone;
  EXPECT_TRUE(CheckRow(row, Limits(), Table().at(1)).ok());
}

TEST(RowCheckTest, LateRowsNeedThePreviousSample) {
  const SequenceTable table = Table();
  Row row = LateRow();
  row.tokens = {1};
  EXPECT_THAT(CheckRow(row, Limits(), table.at(1)).message(), HasSubstr("a late row's tokens"));
  row = LateRow();
  row.count = 2;
  EXPECT_THAT(CheckRow(row, Limits(), table.at(1)).message(), HasSubstr("a late row's count is 2"));
  StepLimits no_replica = Limits();
  no_replica.has_replica = false;
  EXPECT_THAT(CheckRow(LateRow(), no_replica, table.at(1)).message(), HasSubstr("has no router"));
  Sequence unsampled = table.at(1);
  unsampled.sampled_position = -1;
  EXPECT_THAT(CheckRow(LateRow(), Limits(), unsampled).message(),
              HasSubstr("the last sample is at -1"));
}

TEST(RowCheckTest, DraftsFollowACommittedTokenOfARowThatSamples) {
  SequenceTable table = Table();
  Row row = KnownRow();
  row.drafts = 1;
  EXPECT_THAT(CheckRow(row, Limits(), table.at(1)).message(), HasSubstr("the size of routes is 2"));
  row.routes = {0};
  EXPECT_TRUE(CheckRow(row, Limits(), table.at(1)).ok());
  EXPECT_EQ(ReplicaFillFrom(table.at(1), row), 5) << "drafts are no part of what is missing";

  Row scores = row;
  scores.emit = Emit::kScore;
  scores.targets = {1, 2};
  EXPECT_THAT(CheckRow(scores, Limits(), table.at(1)).message(),
              HasSubstr("drafts is 1, must be 0"));
  Row only_drafts = row;
  only_drafts.drafts = 2;
  EXPECT_THAT(CheckRow(only_drafts, Limits(), table.at(1)).message(), HasSubstr("drafts is 2"));
  StepLimits no_replica = Limits();
  no_replica.has_replica = false;
  EXPECT_THAT(CheckRow(row, no_replica, table.at(1)).message(), HasSubstr("router's replica"));
  table.at(1).sampling.repetition_penalty = 1.5f;
  EXPECT_THAT(CheckRow(row, Limits(), table.at(1)).message(), HasSubstr("with penalties"));
  table.at(1).sampling.repetition_penalty = 1;
  table.at(1).sampling.presence_penalty = 1;
  EXPECT_THAT(CheckRow(row, Limits(), table.at(1)).message(), HasSubstr("with penalties"));

  StepPlan plan;
  plan.rows = {KnownRow()};
  plan.rows[0].drafts = 3;
  EXPECT_THAT(CheckPlan(plan, Limits(), Table()).message(),
              HasSubstr("rows.drafts is 3, must be 0..2"));
}

TEST(RowCheckTest, AMaskNamesATokenOfARowThatSamplesAlone) {
  const SequenceTable table = Table();
  const auto check = [&](const Row& row) {
    return std::string(CheckRow(row, Limits(), table.at(1)).message());
  };
  Row row = KnownRow();
  row.allowed = {0, 0, 0, 1u << 3};  // token 99 of 100
  EXPECT_EQ(check(row), "");
  row.allowed = {0, 0, 0, ~0u << 4};
  EXPECT_THAT(check(row), HasSubstr("allowed names no token"));
  row.allowed = {1, 0, 0};
  EXPECT_THAT(check(row), HasSubstr("the size of allowed is 3"));
  row.allowed = {1, 0, 0, 0};
  row.emit = Emit::kNone;
  EXPECT_THAT(check(row), HasSubstr("a row that samples"));
  row = LateRow();
  row.allowed = {1, 0, 0, 0};
  EXPECT_THAT(check(row), HasSubstr("not late"));
  row = KnownRow();
  row.allowed = {1, 0, 0, 0};
  row.drafts = 1;
  row.routes = {0};
  EXPECT_THAT(check(row), HasSubstr("no drafts"));
}

TEST(RowCheckTest, DenseModelsTakeNoRoutes) {
  StepLimits dense = Limits();
  dense.num_experts = 0;
  dense.has_replica = false;
  EXPECT_THAT(CheckRow(KnownRow(), dense, Table().at(1)).message(),
              HasSubstr("the size of routes is 2"));
  Row row = KnownRow();
  row.routes.clear();
  EXPECT_TRUE(CheckRow(row, dense, Table().at(1)).ok());
  EXPECT_TRUE(CheckRow(LateRow(), dense, Table().at(1)).ok());
}

TEST(RowCheckTest, AFailedSequenceTakesNoRows) {
  SequenceTable table = Table();
  table.at(1).Fail("logits are not finite");
  EXPECT_THAT(CheckRow(KnownRow(), Limits(), table.at(1)).message(),
              HasSubstr("logits are not finite"));
}

TEST(BlockCheckTest, RefusesHolesAndIdsOutOfRange) {
  const SequenceTable table = Table();
  EXPECT_TRUE(CheckBlocks({1, 1, {0, 1, 2}}, Limits(), table.at(1)).ok());
  EXPECT_THAT(CheckBlocks({1, 2, {0}}, Limits(), table.at(1)).message(),
              HasSubstr("first_index is 2"));
  EXPECT_THAT(CheckBlocks({1, -1, {0}}, Limits(), table.at(1)).message(),
              HasSubstr("first_index is -1"));
  EXPECT_THAT(CheckBlocks({1, 1, {0, 10}}, Limits(), table.at(1)).message(),
              HasSubstr("blocks.ids[1] is 10"));
  EXPECT_THAT(CheckBlocks({1, 1, {0, 1, 2, 3}}, Limits(), table.at(1)).message(),
              HasSubstr("at most 4"));
}

TEST(AddCheckTest, NamesWhatIsWrong) {
  const std::vector<std::pair<std::function<void(SequenceAdd&)>, const char*>> cases = {
      {[](SequenceAdd& a) { a.history.assign(64, 1); }, "the size of history is 64"},
      {[](SequenceAdd& a) { a.history = {100}; }, "history[0] is 100"},
      {[](SequenceAdd& a) { a.sampling.temperature = std::numeric_limits<float>::quiet_NaN(); },
       "temperature is nan"},
      {[](SequenceAdd& a) { a.sampling.temperature = -1; }, "temperature is -1"},
      {[](SequenceAdd& a) { a.sampling.top_k = -1; }, "top_k is -1"},
      {[](SequenceAdd& a) { a.sampling.top_p = 1.5; }, "top_p is 1.5"},
      {[](SequenceAdd& a) { a.sampling.min_p = -0.5; }, "min_p is -0.5"},
      {[](SequenceAdd& a) { a.sampling.repetition_penalty = 0; }, "repetition_penalty is 0"},
      {[](SequenceAdd& a) { a.sampling.frequency_penalty = 2.5f; }, "frequency_penalty is 2.5"},
      {[](SequenceAdd& a) { a.sampling.presence_penalty = -3; }, "presence_penalty is -3"},
      {[](SequenceAdd& a) { a.generated_from = -1; }, "generated_from is -1"},
      {[](SequenceAdd& a) {
         a.logit_bias = {{7, std::numeric_limits<float>::infinity()}};
       },
       "logit_bias[7] is inf"},
      {[](SequenceAdd& a) {
         a.logit_bias = {{100, 1}};
       },
       "logit_bias names token 100"},
      {[](SequenceAdd& a) {
         a.logit_bias = {{7, 1}, {7, 2}};
       },
       "logit_bias[1] is 7, must be above the one before, 7"},
      {[](SequenceAdd& a) { a.banned = {-1}; }, "banned[0] is -1"},
      {[](SequenceAdd& a) {
         a.banned = {5, 4};
       },
       "banned[1] is 4"},
      {[](SequenceAdd& a) { a.banned.assign(100, 1); }, "the size of banned is 100"},
  };
  EXPECT_TRUE(CheckAdd(SequenceAdd(), Limits()).ok());
  for (const auto& [corrupt, message] : cases) {
    SequenceAdd add;
    corrupt(add);
    EXPECT_THAT(CheckAdd(add, Limits()).message(), HasSubstr(message));
  }
}

}  // namespace
}  // namespace pregate
