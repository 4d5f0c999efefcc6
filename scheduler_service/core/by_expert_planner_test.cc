#include "scheduler_service/core/by_expert_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "scheduler_service/core/home_rank.h"
#include "scheduler_service/core/testing/planner_fixture.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ByExpertPlannerTest : public PlannerFixture {
 protected:
  Proposal Propose() { return ByExpertPlanner(options_).Propose(View()); }

  ByExpertOptions options_{.age_steps = 4, .experts_max = 0, .chunk_tokens = 3};
};

TEST_F(ByExpertPlannerTest, ResidentExpertsRunAndOthersWaitUntilTheyAreOld) {
  Sequence* away = Decoding(3);
  Sequence* here = Decoding(1);
  away->routes.back() = 3;
  here->routes.back() = 1;
  step_ = 10;
  for (Sequence* s : {away, here}) s->idle_since = 9;
  for (int passed_over = 0; passed_over < 4; ++passed_over, ++step_) {
    EXPECT_THAT(RowsOf(Propose()), ElementsAre(here->id)) << passed_over;
    here->idle_since = step_;
  }
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(away->id, here->id));
}

TEST_F(ByExpertPlannerTest, WithAllExpertsThereNobodyWaits) {
  Sequence* a = Decoding(3);
  Sequence* b = Decoding(1);
  a->routes.back() = 3;
  for (Sequence* s : {a, b}) s->idle_since = step_ - 1;
  expert_slots_ = 0;
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(a->id, b->id));
}

TEST_F(ByExpertPlannerTest, WhereNothingResidentIsWantedTheMostTokensWin) {
  SetResident({});
  Sequence* a = Decoding(3);
  Sequence* b = Decoding(4);
  Sequence* c = Decoding(4);
  a->routes.back() = 3;
  b->routes.back() = c->routes.back() = 4;
  for (Sequence* s : {a, b, c}) s->idle_since = step_ - 1;
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(b->id, c->id));
}

TEST_F(ByExpertPlannerTest, AChunkIsCutWhereTheRouteLeavesTheSetIfThatPays) {
  Enqueue("010134");
  const Proposal cut = Propose();
  ASSERT_THAT(cut.rows, testing::SizeIs(1));
  EXPECT_EQ(cut.rows[0].count, 4);
  EXPECT_EQ(cut.rows[0].emit, Emit::kNone);
}

TEST_F(ByExpertPlannerTest, AShortChunkIsNotWorthARow) {
  Sequence* longer = Enqueue("0000");
  Sequence* cut = Enqueue("014444444444");
  Sequence* whole = Enqueue("01");
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(longer->id, whole->id)) << cut->id;
}

TEST_F(ByExpertPlannerTest, AnOldPromptRunsUncutAndItsExpertsServeAll) {
  Sequence* decoding = Decoding(3);
  decoding->routes.back() = 3;
  decoding->idle_since = 9;
  Sequence* prompt = Enqueue("012301230123");
  step_ = 10;
  prompt->idle_since = 5;
  const Proposal proposal = Propose();
  EXPECT_THAT(RowsOf(proposal), ElementsAre(decoding->id, prompt->id));
  EXPECT_EQ(proposal.rows[1].count, 12);
}

TEST_F(ByExpertPlannerTest, ALateRowGoesByTheGuessThatItsRouteStays) {
  options_.experts_max = 2;
  expert_slots_ = 0;
  SetResident({0, 1, 2, 3, 4});
  Sequence* a = Enqueue("1");
  Sequence* b = Enqueue("2");
  Sequence* c = Enqueue("3");
  Sequence* d = Enqueue("3");
  FcfsPlanner fcfs;
  batch_.Commit(fcfs.Propose(View()), 1, step_++);
  PlannerView view = View();
  view.late_rows = true;
  const Proposal proposal = ByExpertPlanner(options_).Propose(view);
  EXPECT_THAT(RowsOf(proposal), ElementsAre(a->id, c->id, d->id)) << b->id;
  EXPECT_TRUE(proposal.rows[0].late);
}

class HomeRankTest : public testing::Test {
 protected:
  RankBlocks* Home(const std::string& routes) {
    Sequence s;
    s.prompt_len = static_cast<int32_t>(routes.size());
    for (char c : routes) s.Append(9, c - '0');
    return PreferredHome(s, experts_, absl::MakeSpan(free_));
  }
  std::vector<RankBlocks> free_ = {{0, 100}, {3, 100}};
  std::vector<ExpertPlace> experts_ = {{{0}}, {{3}}, {{0}}};
};

TEST_F(HomeRankTest, IsTheRankOfTheExpertThatIsNamedMost) {
  EXPECT_EQ(Home("001")->rank, 0);
  EXPECT_EQ(Home("0112")->rank, 3);
}

TEST_F(HomeRankTest, OfSeveralRanksTheRoomiest) {
  experts_[1].ranks = {0, 3};
  free_[0].num_blocks = 90;
  EXPECT_EQ(Home("111")->rank, 3);
}

TEST_F(HomeRankTest, LoadPermitting) {
  free_[1].num_blocks = 51;
  EXPECT_EQ(Home("111")->rank, 3);
  free_[1].num_blocks = 50;
  EXPECT_EQ(Home("111"), nullptr) << "49 left beside 100";
}

TEST_F(HomeRankTest, OneRankHasNoChoice) {
  free_.pop_back();
  EXPECT_EQ(Home("111"), nullptr);
}

}  // namespace
}  // namespace pregate::scheduler
