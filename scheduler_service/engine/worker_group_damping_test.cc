// Members that end epochs again and again (worker_group.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/testing/worker_group_fixture.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

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

}  // namespace
}  // namespace pregate::scheduler
