#include "scheduler_service/engine/worker_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <variant>

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Link final : public WorkerLink {
 public:
  void Send(ToWorker message) override { sent.push_back(std::move(message)); }
  const Form& LastForm() const { return std::get<Form>(sent.back()); }
  std::vector<ToWorker> sent;
};

class Observer final : public EngineObserver {
 public:
  void OnLog(LogLevel, const std::string& message) override {
    last = message;
    logged += message + "\n";
  }
  std::string last, logged;
};

Hello GoodHello(int32_t rank, Epoch highest = 0) {
  Hello hello;
  hello.rank = rank;
  hello.model_digest = "model";
  hello.config_digest = "config";
  hello.numerics_id = "avx2";
  hello.kv_blocks = 10;
  hello.seq_slots = 4;
  hello.step_tokens = 64;
  hello.context_tokens = 128;
  hello.vocab_size = 100;
  hello.num_experts = 3;
  hello.highest_epoch = highest;
  hello.rendezvous = "meet";
  return hello;
}

class WorkerGroupTest : public testing::Test {
 protected:
  WorkerGroup::VoidReason Formed(int32_t rank, absl::Status status = absl::OkStatus()) {
    return group_.OnFormed(rank, {group_.epoch(), std::move(status), "next"}, now_);
  }
  // The loop turns until `end`, or until there is a reason.
  WorkerGroup::VoidReason TickUntil(absl::Time end, std::vector<int32_t> owing, absl::Time since) {
    for (; now_ < end; now_ += absl::Milliseconds(100)) {
      if (auto reason = group_.OnTick(owing, since, now_)) return reason;
    }
    return std::nullopt;
  }
  void FormWith(std::vector<int32_t> ranks) {
    for (int32_t rank : ranks) {
      Hello hello = GoodHello(rank);
      hello.lease_ms = lease_ms_;
      EXPECT_FALSE(group_.OnHello(rank, hello, false, now_));
    }
    group_.FormIfDue(now_);
    for (int32_t rank : ranks) EXPECT_FALSE(Formed(rank));
    ASSERT_TRUE(group_.formed());
  }
  static EngineOptions Options() {
    EngineOptions options;
    options.model_digest = "model";
    options.config_digest = "config";
    options.form_wait = options.grow_wait = absl::ZeroDuration();
    return options;
  }

  Link links_[2];
  Observer observer_;
  WorkerGroup group_{Options(), {&links_[0], &links_[1]}, &observer_};
  absl::Time now_ = absl::UnixEpoch();
  int32_t lease_ms_ = 0;  // of what FormWith says hello with; 0: it gives no signs of life
};

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
      {"protocol is 2, must be 1..1", [](Hello* h) { h->protocol = 2; }},
      {"model_digest is other, the cell's is model", [](Hello* h) { h->model_digest = "other"; }},
      {"router_digest is other, the cell's is ", [](Hello* h) { h->router_digest = "other"; }},
      {"config_digest is other, the cell's is config",
       [](Hello* h) { h->config_digest = "other"; }},
      {"numerics_id is avx512, the cell's is avx2", [](Hello* h) { h->numerics_id = "avx512"; }},
      {"vocab_size is 101", [](Hello* h) { h->vocab_size = 101; }},
      {"num_experts is 0", [](Hello* h) { h->num_experts = 0; }},
      {"kv_blocks is 0", [](Hello* h) { h->kv_blocks = 0; }},
      {"kv_blocks is 2147483647", [](Hello* h) { h->kv_blocks = INT32_MAX; }},
      {"seq_slots is -1", [](Hello* h) { h->seq_slots = -1; }},
      {"step_tokens is 0", [](Hello* h) { h->step_tokens = 0; }},
      {"context_tokens is 1", [](Hello* h) { h->context_tokens = 1; }},
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
  hello.numerics_id = "avx512";
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

// --- who ends epochs again and again ---

class FlapDampingTest : public WorkerGroupTest {
 protected:
  FlapDampingTest() { lease_ms_ = 5000; }

  // Both are asked, and worker 1 answers with `status`; the rest goes on without it.
  void Refuse(const absl::Status& status) {
    ASSERT_THAT(group_.members(), ElementsAre(0, 1));
    EXPECT_FALSE(Formed(0));
    ASSERT_TRUE(Formed(1, status).has_value());
    Reform();
  }
  // The epoch is void; who is chosen forms the next one and runs a step.
  void Reform() {
    group_.Void(now_);
    now_ = std::max(now_, group_.NextForm());
    group_.FormIfDue(now_);
    ASSERT_TRUE(group_.forming());
  }
  void Serve() {
    for (int32_t rank : group_.members()) EXPECT_FALSE(Formed(rank));
    ASSERT_TRUE(group_.formed());
    group_.OnStepAnswered();
  }
  // How long worker 1 is left out beside worker 0 that serves, both alive; then it is asked again.
  absl::Duration TimeToReadmission() {
    EXPECT_THAT(group_.members(), ElementsAre(0));
    const absl::Time start = now_;
    for (;; now_ += absl::Milliseconds(100)) {
      for (int32_t rank : {0, 1}) group_.OnHeard(rank, Alive{}, now_);
      if (group_.OnTick({}, now_, now_)) break;
      if (now_ - start > absl::Minutes(5)) return absl::InfiniteDuration();
    }
    const absl::Duration waited = now_ - start;
    Reform();
    return waited;
  }
  // Worker 1 freezes long enough to be left out, and thaws.
  void Freeze() {
    const absl::Time since = now_;
    WorkerGroup::VoidReason reason;
    while (!reason) {
      now_ += absl::Milliseconds(100);
      ASSERT_LT(now_ - since, absl::Seconds(2));
      group_.OnHeard(0, Alive{}, now_);
      reason = group_.OnTick({1}, since, now_);
    }
    Reform();
    Serve();
    group_.OnHeard(1, Alive{}, now_);
  }
};

TEST_F(FlapDampingTest, WhoRefusesIsLeftOutWhileOthersServeAndAskedLaterAndLater) {
  FormWith({0, 1});
  absl::Duration last;
  for (const absl::Status& status :
       {absl::DataLossError("model.safetensors: tensor x"), absl::ResourceExhaustedError("memory"),
        absl::InvalidArgumentError("placement"), absl::FailedPreconditionError("drains"),
        absl::DataLossError("x"), absl::DataLossError("x"), absl::DataLossError("x")}) {
    Refuse(status);
    Serve();
    const absl::Duration waited = TimeToReadmission();
    EXPECT_GE(waited, std::min(2 * last, Options().readmit_wait_max - absl::Seconds(1)));
    EXPECT_GE(waited, Options().readmit_wait_min - absl::Milliseconds(200));
    EXPECT_LE(waited, Options().readmit_wait_max);
    last = waited - absl::Milliseconds(200);
  }
  EXPECT_GE(last, Options().readmit_wait_max - absl::Seconds(1));
  EXPECT_THAT(observer_.logged, HasSubstr("worker 1 has to wait"));
  EXPECT_THAT(observer_.logged, HasSubstr("well for 30s"));
}

TEST_F(FlapDampingTest, WhatAPeerOrTheEpochsEndHasFailedIsNobodysFault) {
  FormWith({0, 1});
  for (const absl::Status& status : {absl::UnavailableError("a rank left"),
                                     absl::AbortedError("over"), absl::UnavailableError("again")}) {
    EXPECT_TRUE(Formed(1, status));
    Reform();
    EXPECT_THAT(group_.members(), ElementsAre(0, 1));
    EXPECT_FALSE(Formed(0));
  }
}

TEST_F(FlapDampingTest, WhereNobodyElseIsLeftItIsAskedAllTheSame) {
  FormWith({0, 1});
  Refuse(absl::DataLossError("x"));
  EXPECT_THAT(group_.members(), ElementsAre(0));
  EXPECT_TRUE(group_.OnDown(0, "gone", now_));
  Reform();
  EXPECT_THAT(group_.members(), ElementsAre(1));
}

TEST_F(FlapDampingTest, OneThatFreezesIsTakenInAtOnceTwiceAndLaterAfterThat) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  for (const absl::Duration wait : {absl::ZeroDuration(), absl::ZeroDuration(), absl::Seconds(1),
                                    absl::Seconds(2), absl::Seconds(4)}) {
    Freeze();
    EXPECT_EQ(TimeToReadmission(), wait);
    Serve();
  }
  now_ += Options().loss_window + absl::Seconds(1);
  Freeze();
  EXPECT_EQ(TimeToReadmission(), absl::ZeroDuration()) << "forgotten";
}

TEST_F(FlapDampingTest, OneThatFreezesWhileItWaitsWaitsAnew) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  for (int i = 0; i < 2; ++i) {
    Freeze();
    TimeToReadmission();
    Serve();
  }
  Freeze();
  for (int i = 0; i < 100; ++i) {  // of 900 ms each
    for (int j = 0; j < 9; ++j, now_ += absl::Milliseconds(100)) {
      group_.OnHeard(0, Alive{}, now_);
      ASSERT_FALSE(group_.OnTick({}, now_, now_)) << "not taken in";
    }
    group_.OnHeard(1, Alive{}, now_);
  }
  EXPECT_EQ(TimeToReadmission(), absl::Seconds(1));
}

TEST_F(FlapDampingTest, AFrozenMemberIsLeftOutForOneThatWaits) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  Refuse(absl::DataLossError("x"));
  Serve();
  const absl::Time since = now_;
  WorkerGroup::VoidReason reason;
  for (; !reason && now_ - since < absl::Seconds(2); now_ += absl::Milliseconds(100)) {
    group_.OnHeard(1, Alive{}, now_);
    reason = group_.OnTick({0}, since, now_);
  }
  EXPECT_THAT(reason.value_or(""), HasSubstr("worker 0 owes"));
  Reform();
  EXPECT_THAT(group_.members(), ElementsAre(1));
}

TEST_F(FlapDampingTest, LossesOutlastTheProcess) {
  FormWith({0, 1});
  group_.OnStepAnswered();
  for (const absl::Duration wait : {absl::ZeroDuration(), absl::ZeroDuration(), absl::Seconds(1)}) {
    EXPECT_TRUE(group_.OnDown(1, "crash", now_));
    Reform();
    Serve();
    Hello hello = GoodHello(1);
    hello.lease_ms = lease_ms_;
    hello.incarnation = 7;
    if (group_.OnHello(1, hello, false, now_)) {
      EXPECT_EQ(wait, absl::ZeroDuration());
      Reform();
    } else {
      EXPECT_EQ(TimeToReadmission(), wait);
    }
    Serve();
  }
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
