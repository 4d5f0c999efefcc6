#include "scheduler_service/engine/worker_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <variant>

#include "sim/testing/worker_group_fixture.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(WorkerGroupTest, FormsAboveTheHighestEpochSeen) {
  EXPECT_FALSE(group_.OnHello(0, GoodHello(0, 7), false, now_));
  EXPECT_FALSE(group_.OnHello(1, GoodHello(1, 41), false, now_));
  group_.FormIfDue(now_);
  EXPECT_EQ(links_[0].LastForm().epoch, 42u);
  EXPECT_THAT(links_[1].LastForm().members, ElementsAre(0, 1));
  EXPECT_EQ(links_[1].LastForm().rendezvous, "meet");
  EXPECT_THAT(links_[1].LastForm().placement.ranks,
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(0)));
  EXPECT_FALSE(Formed(1));
  EXPECT_FALSE(group_.formed()) << "worker 0 has not answered";
  EXPECT_FALSE(Formed(0));
  EXPECT_TRUE(group_.formed());
}

struct Mismatch {
  const char* message;
  std::function<void(Hello*)> change;
};

TEST_F(WorkerGroupTest, RefusesAWorkerThatDoesNotFitAndSaysWhy) {
  FormWith({0});
  const Mismatch mismatches[] = {
      {"rank is 0, must be 1..1", [](Hello* h) { h->rank = 0; }},
      {"protocol is 1, must be 4..4", [](Hello* h) { h->protocol = 1; }},
      {"model_digest is other, the cell's is model",
       [](Hello* h) { h->facts.model_digest = "other"; }},
      {"router_digest is other, the cell's is ",
       [](Hello* h) { h->facts.router_digest = "other"; }},
      {"numerics_id is avx512, the cell's is avx2",
       [](Hello* h) { h->facts.numerics_id = "avx512"; }},
      {"vocab_size is 101", [](Hello* h) { h->facts.vocab_size = 101; }},
      {"num_experts is 0", [](Hello* h) { h->facts.num_experts = 0; }},
      {"kv_blocks is 0", [](Hello* h) { h->facts.kv_blocks = 0; }},
      {"kv_blocks is 2147483647", [](Hello* h) { h->facts.kv_blocks = INT32_MAX; }},
      {"seq_slots is -1", [](Hello* h) { h->facts.seq_slots = -1; }},
      {"step_tokens is 0", [](Hello* h) { h->facts.step_tokens = 0; }},
      {"context_tokens is 1", [](Hello* h) { h->facts.context_tokens = 1; }},
  };
  for (const Mismatch& mismatch : mismatches) {
    Hello hello = GoodHello(1);
    mismatch.change(&hello);
    EXPECT_FALSE(group_.OnHello(1, hello, false, now_));
    EXPECT_THAT(observer_.last, HasSubstr(mismatch.message));
    EXPECT_EQ(group_.num_up(), 1);
    EXPECT_TRUE(group_.formed()) << "the others go on";
  }
}

TEST_F(WorkerGroupTest, AnotherNumericsIdMayComeWhenNothingDependsOnIt) {
  FormWith({0});
  EXPECT_TRUE(group_.OnDown(0, "gone", now_));
  group_.Void(now_);
  Hello hello = GoodHello(0);
  hello.facts.numerics_id = "avx512";
  EXPECT_FALSE(group_.OnHello(0, hello, /*may_change_model=*/false, now_));
  EXPECT_EQ(group_.num_up(), 0);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_EQ(links_[0].sent.size(), 1u) << "no worker, no form";
  EXPECT_FALSE(group_.OnHello(0, hello, /*may_change_model=*/true, now_));
  EXPECT_EQ(group_.facts()->numerics_id, "avx512");
}

TEST_F(WorkerGroupTest, EveryChangeOfTheMembersMakesTheEpochVoid) {
  FormWith({0});
  EXPECT_TRUE(group_.OnHello(1, GoodHello(1), false, now_)) << "one more";
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_THAT(group_.members(), ElementsAre(0, 1));
  EXPECT_TRUE(group_.OnDown(1, "gone", now_)) << "while forming";
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_THAT(group_.members(), ElementsAre(0));
  EXPECT_FALSE(group_.OnDown(1, "gone again", now_));
  EXPECT_TRUE(group_.OnHello(0, GoodHello(0), false, now_)) << "the same one, anew";
}

TEST_F(WorkerGroupTest, ARefusedFormIsTriedAgainLaterAndLater) {
  ASSERT_FALSE(group_.OnHello(0, GoodHello(0), false, now_));
  absl::Duration last;
  for (int i = 0; i < 12; ++i) {
    group_.FormIfDue(now_);
    EXPECT_EQ(links_[0].sent.size(), static_cast<size_t>(i + 1));
    EXPECT_THAT(Formed(0, absl::FailedPreconditionError("held by another"))->data(),
                HasSubstr("held by another"));
    group_.Void(now_);
    const absl::Duration wait = group_.NextForm() - now_;
    EXPECT_GE(wait, std::max(last, Options().form_backoff_min));
    EXPECT_LE(wait, Options().form_backoff_max);
    group_.FormIfDue(now_ + wait / 2);
    EXPECT_EQ(links_[0].sent.size(), static_cast<size_t>(i + 1)) << "too early";
    now_ += last = wait;
  }
  group_.OnStepAnswered();
  group_.Void(now_);
  EXPECT_EQ(group_.NextForm(), now_);
}

TEST_F(WorkerGroupTest, AWorkerThatComesAndGoesWaitsToo) {
  FormWith({0});
  EXPECT_TRUE(group_.OnDown(0, "crash", now_));
  group_.Void(now_);
  EXPECT_FALSE(group_.OnHello(0, GoodHello(0), false, now_));
  EXPECT_EQ(group_.NextForm(), now_ + Options().form_backoff_min);
}

TEST_F(WorkerGroupTest, AWorkerThatOwesAndDoesNotAdvanceIsLeftOutUntilHeard) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  const absl::Time sent = now_;
  const absl::Duration stall = Options().worker_stall_timeout;
  EXPECT_FALSE(TickUntil(sent + stall / 2, {0, 1}, sent));
  group_.OnAdvance(1, now_);
  group_.OnHeard(0, Progress{}, now_);  // a heartbeat, but its plan may be lost
  EXPECT_THAT(TickUntil(sent + 2 * stall, {0, 1}, sent)->data(), HasSubstr("worker 0 owes"));
  EXPECT_LT(now_, sent + stall + absl::Seconds(1));
  group_.Void(now_);
  group_.FormIfDue(now_);
  EXPECT_THAT(group_.members(), ElementsAre(1));
  EXPECT_FALSE(Formed(1));
  group_.OnHeard(0, Alive{}, now_);
  EXPECT_FALSE(group_.OnTick({}, now_, now_)) << "its process lives, its loop is stuck";
  group_.OnHeard(0, Progress{}, now_);
  EXPECT_TRUE(group_.OnTick({}, now_, now_));
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Minutes(1));
  EXPECT_THAT(group_.members(), ElementsAre(0, 1));
}

TEST_F(WorkerGroupTest, NobodyOwesNobodyStalls) {
  FormWith({0, 1});
  EXPECT_FALSE(TickUntil(now_ + 2 * Options().worker_stall_timeout, {}, now_));
}

TEST_F(WorkerGroupTest, WhoWaitsForAStalledPeerIsNotToBlame) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  for (int32_t rank : {0, 1}) group_.OnHeard(rank, Alive{.waits_for_peers = rank == 0}, now_);
  const auto reason = [&] {
    const absl::Time sent = now_;
    for (int i = 0; i < 1000; ++i, now_ += absl::Milliseconds(100)) {
      for (int32_t rank : {0, 1}) group_.OnHeard(rank, Alive{.waits_for_peers = rank == 0}, now_);
      if (auto found = group_.OnTick({0, 1}, sent, now_)) return *found;
    }
    return std::string();
  }();
  EXPECT_THAT(reason, HasSubstr("worker 1 owes"));
  group_.Void(now_);
  group_.FormIfDue(now_);
  EXPECT_THAT(group_.members(), ElementsAre(0));
}

TEST_F(WorkerGroupTest, ASilentProcessIsLeftOutAtOnceIfOthersAreNot) {
  lease_ms_ = 5000;
  FormWith({0, 1});
  group_.OnStepAnswered();
  const absl::Time sent = now_;
  WorkerGroup::VoidReason reason;
  for (; !reason && now_ < sent + absl::Seconds(5); now_ += absl::Milliseconds(100)) {
    group_.OnHeard(0, Alive{.waits_for_peers = true}, now_);
    reason = group_.OnTick({0, 1}, sent, now_);
  }
  ASSERT_TRUE(reason.has_value());
  EXPECT_THAT(*reason, HasSubstr("worker 1 owes"));
  EXPECT_LE(now_ - sent, Options().worker_silence_timeout + absl::Milliseconds(200));
  group_.Void(now_);
  group_.FormIfDue(now_);
  EXPECT_THAT(group_.members(), ElementsAre(0));
  EXPECT_FALSE(Formed(0));
  group_.OnHeard(1, Alive{}, now_);
  EXPECT_THAT(group_.OnTick({}, now_, now_)->data(), HasSubstr("worker 1 has come"));
}

TEST_F(WorkerGroupTest, ACellThatIsSilentAsAWholeWaitsForTheStall) {
  lease_ms_ = 5000;
  FormWith({0, 1});
  const absl::Time sent = now_;
  EXPECT_TRUE(TickUntil(sent + absl::Hours(1), {0, 1}, sent));
  EXPECT_GE(now_ - sent, Options().worker_stall_timeout);
}

TEST_F(WorkerGroupTest, TimeInWhichTheLoopDidNotRunIsNobodysSilence) {
  lease_ms_ = 5000;
  FormWith({0, 1});
  EXPECT_FALSE(group_.OnTick({0, 1}, now_, now_));
  const absl::Time sent = now_;
  now_ += absl::Minutes(1);  // this process was frozen
  group_.OnHeard(0, Alive{}, now_);
  EXPECT_FALSE(group_.OnTick({0, 1}, sent, now_)) << "worker 1's signs wait in a socket";
}

TEST_F(WorkerGroupTest, WhenAllAreSilentAllAreAskedAgain) {
  ASSERT_FALSE(group_.OnHello(0, GoodHello(0), false, now_));
  for (size_t i = 1; i < 4; ++i) {
    group_.FormIfDue(now_);
    ASSERT_EQ(links_[0].sent.size(), i);
    EXPECT_TRUE(TickUntil(now_ + absl::Minutes(1), {}, now_)) << "no Formed";
    group_.Void(now_);
    now_ += absl::Minutes(1);
  }
}

// --- when it forms ---

class WorkerGroupFormsTest : public WorkerGroupTest {
 protected:
  WorkerGroupFormsTest() {
    EngineOptions options = Options();
    options.form_wait = absl::Seconds(1);
    options.grow_wait = absl::Seconds(10);
    group_.emplace(options, std::vector<WorkerLink*>{&links_[0], &links_[1], &links_[2]},
                   &observer_);
  }
  WorkerGroup::VoidReason HelloOf(int32_t rank) {
    return group_->OnHello(rank, GoodHello(rank), false, now_);
  }
  void FormAndAnswer() {
    now_ = std::max(now_, group_->NextForm());
    group_->FormIfDue(now_);
    for (int32_t rank : group_->members()) {
      EXPECT_FALSE(group_->OnFormed(rank, {group_->epoch(), absl::OkStatus(), "next"}, now_));
    }
    ASSERT_TRUE(group_->formed());
  }

  Link links_[3];
  std::optional<WorkerGroup> group_;
};

TEST_F(WorkerGroupFormsTest, TheFirstWaitABoundedTimeForTheRest) {
  EXPECT_FALSE(HelloOf(1));
  EXPECT_EQ(group_->NextForm(), now_ + absl::Seconds(1));
  now_ += absl::Milliseconds(900);
  EXPECT_FALSE(HelloOf(0));
  group_->FormIfDue(now_);
  EXPECT_TRUE(links_[1].sent.empty());
  now_ += absl::Milliseconds(100);
  group_->FormIfDue(now_);
  EXPECT_THAT(links_[1].LastForm().members, ElementsAre(0, 1));
}

TEST_F(WorkerGroupFormsTest, TheLastOneEndsTheWait) {
  for (int32_t rank : {2, 0, 1}) EXPECT_FALSE(HelloOf(rank));
  EXPECT_LE(group_->NextForm(), now_);
  FormAndAnswer();
  EXPECT_THAT(group_->members(), ElementsAre(0, 1, 2));
}

TEST_F(WorkerGroupFormsTest, ACellGrowsWhenItIsCompleteOrTheNewOnesHaveWaited) {
  EXPECT_FALSE(HelloOf(0));
  now_ += absl::Seconds(1);
  FormAndAnswer();
  EXPECT_FALSE(HelloOf(1));
  now_ += absl::Seconds(9);
  EXPECT_FALSE(group_->OnTick({}, now_, now_));
  now_ += absl::Seconds(1);
  EXPECT_THAT(group_->OnTick({}, now_, now_)->data(), HasSubstr("worker 1 has come"));
  group_->Void(now_);
  FormAndAnswer();
  EXPECT_THAT(HelloOf(2)->data(), HasSubstr("worker 2 has come"));
}

TEST_F(WorkerGroupFormsTest, AfterALossTheOthersGoOnAtOnce) {
  for (int32_t rank : {0, 1, 2}) EXPECT_FALSE(HelloOf(rank));
  FormAndAnswer();
  group_->OnStepAnswered();
  EXPECT_TRUE(group_->OnDown(1, "gone", now_));
  group_->Void(now_);
  EXPECT_EQ(group_->NextForm(), now_);
  FormAndAnswer();
  EXPECT_THAT(group_->members(), ElementsAre(0, 2));
}

TEST_F(WorkerGroupFormsTest, ARendezvousIsUsedOnceAndForOneOneWaits) {
  for (int32_t rank : {0, 1, 2}) EXPECT_FALSE(HelloOf(rank));
  group_->FormIfDue(now_);
  EXPECT_EQ(links_[1].LastForm().rendezvous, "meet");
  const Epoch first = group_->epoch();
  EXPECT_TRUE(group_->OnDown(2, "gone", now_));
  group_->Void(now_);
  now_ += absl::Seconds(1);
  group_->FormIfDue(now_);
  EXPECT_EQ(group_->epoch(), first) << "worker 0 has not answered";
  EXPECT_EQ(group_->NextForm(), absl::InfiniteFuture()) << "its answer wakes the loop";
  EXPECT_FALSE(group_->OnFormed(0, {first, absl::AbortedError("over"), "fresh"}, now_));
  group_->FormIfDue(now_);
  EXPECT_EQ(links_[1].LastForm().rendezvous, "fresh");
  EXPECT_FALSE(group_->OnFormed(1, {first, absl::AbortedError("over"), "late"}, now_));
  EXPECT_TRUE(group_->forming()) << "an answer to the first";
}

TEST_F(WorkerGroupFormsTest, AVoidEpochIsEndedWhereItStillRuns) {
  for (int32_t rank : {0, 1, 2}) {
    Hello hello = GoodHello(rank);
    hello.lease_ms = 1000;
    EXPECT_FALSE(group_->OnHello(rank, hello, false, now_));
    EXPECT_EQ(std::get<Renew>(links_[rank].sent.back()).void_through, 0u);
  }
  FormAndAnswer();
  EXPECT_TRUE(group_->OnDown(2, "gone", now_));
  group_->Void(now_);
  EXPECT_EQ(std::get<Renew>(links_[0].sent.back()).void_through, group_->epoch());
  const size_t sent = links_[0].sent.size();
  group_->RenewIfDue(now_);
  group_->RenewIfDue(now_);
  EXPECT_EQ(links_[0].sent.size(), sent + 1) << "not again and again";
}

// --- another scheduler ---

TEST_F(WorkerGroupTest, ASchedulerThatStandsByAsksNowAndThenAndSaysWhoHolds) {
  for (int32_t rank : {0, 1}) EXPECT_FALSE(group_.OnHello(rank, GoodHello(rank), false, now_));
  const absl::Status held = absl::PermissionDeniedError("scheduler 'first' holds this worker");
  for (int attempt = 1; attempt <= 20; ++attempt) {
    group_.FormIfDue(now_);
    ASSERT_EQ(links_[0].sent.size(), static_cast<size_t>(attempt));
    for (int32_t rank : {0, 1}) EXPECT_FALSE(Formed(rank, held)) << "no recovery";
    EXPECT_THAT(group_.held(), HasSubstr("scheduler 'first' holds"));
    EXPECT_GE(group_.NextForm() - now_, Options().form_backoff_min);
    now_ = group_.NextForm();
  }
  EXPECT_FALSE(group_.OnHello(0, GoodHello(0), false, now_)) << "free again";
  EXPECT_TRUE(group_.held().empty());
  group_.FormIfDue(now_ + absl::Seconds(1));
  EXPECT_THAT(group_.members(), ElementsAre(0)) << "worker 1 is still held";
}

TEST_F(WorkerGroupTest, ASchedulerThatStoodByServesWhenTheLeaseIsOver) {
  for (int32_t rank : {0, 1}) EXPECT_FALSE(group_.OnHello(rank, GoodHello(rank), false, now_));
  group_.FormIfDue(now_);
  const absl::Status held = absl::PermissionDeniedError("scheduler 'first' holds this worker");
  for (int32_t rank : {0, 1}) EXPECT_FALSE(Formed(rank, held));
  group_.FormIfDue(group_.NextForm());
  for (int32_t rank : {0, 1}) EXPECT_FALSE(Formed(rank)) << "no Hello comes in between";
  EXPECT_TRUE(group_.formed());
  EXPECT_TRUE(group_.held().empty());
}

TEST_F(WorkerGroupTest, ASchedulerThatHasLostItsWorkersStops) {
  FormWith({0, 1});
  const absl::Status taken =
      absl::PermissionDeniedError("scheduler 'second' has taken this worker");
  EXPECT_THAT(Formed(0, taken)->data(), HasSubstr("scheduler 'second' has taken"));
  group_.Void(now_);
  EXPECT_TRUE(group_.held().empty()) << "worker 1 may be left";
  EXPECT_FALSE(Formed(1, taken));
  EXPECT_THAT(group_.held(), HasSubstr("scheduler 'second' has taken"));
}

TEST_F(WorkerGroupTest, AnAbsurdEpochOfOneWorkerIsNotFollowed) {
  EXPECT_FALSE(group_.OnHello(0, GoodHello(0, ~Epoch{0}), false, now_));
  EXPECT_THAT(observer_.logged, HasSubstr("names epoch 18446744073709551615"));
  EXPECT_FALSE(group_.OnHello(1, GoodHello(1, 41), false, now_));
  group_.FormIfDue(now_);
  EXPECT_EQ(links_[0].LastForm().epoch, 42u);
}

TEST_F(WorkerGroupTest, AStaleFormedIsIgnored) {
  FormWith({0});
  EXPECT_TRUE(group_.OnHello(0, GoodHello(0), false, now_));
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_FALSE(group_.OnFormed(0, {group_.epoch() - 1, absl::OkStatus(), ""}, now_));
  EXPECT_FALSE(group_.formed());
}

}  // namespace
}  // namespace pregate::scheduler
