#include "scheduler_service/engine/worker_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
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
  void OnLog(LogLevel, const std::string& message) override { last = message; }
  std::string last;
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
    return group_.OnFormed(rank, {group_.epoch(), std::move(status), "next"});
  }
  void FormWith(std::vector<int32_t> ranks) {
    for (int32_t rank : ranks) EXPECT_FALSE(group_.OnHello(rank, GoodHello(rank), false, now_));
    group_.FormIfDue(now_);
    for (int32_t rank : ranks) EXPECT_FALSE(Formed(rank));
    ASSERT_TRUE(group_.formed());
  }
  static EngineOptions Options() {
    EngineOptions options;
    options.model_digest = "model";
    options.config_digest = "config";
    return options;
  }

  Link links_[2];
  Observer observer_;
  WorkerGroup group_{Options(), {&links_[0], &links_[1]}, &observer_};
  absl::Time now_ = absl::UnixEpoch();
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
  EXPECT_TRUE(group_.OnDown(0, "gone"));
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
  EXPECT_TRUE(group_.OnDown(1, "gone")) << "while forming";
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_THAT(group_.members(), ElementsAre(0));
  EXPECT_FALSE(group_.OnDown(1, "gone again"));
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
  EXPECT_TRUE(group_.OnDown(0, "crash"));
  group_.Void(now_);
  EXPECT_FALSE(group_.OnHello(0, GoodHello(0), false, now_));
  EXPECT_EQ(group_.NextForm(), now_ + Options().form_backoff_min);
}

TEST_F(WorkerGroupTest, AWorkerThatOwesAndDoesNotAdvanceIsLeftOutUntilHeard) {
  FormWith({0, 1});
  const absl::Time sent = now_;
  const absl::Duration stall = Options().worker_stall_timeout;
  EXPECT_FALSE(group_.OnTick({0, 1}, sent, sent + stall / 2));
  group_.OnAdvance(1, sent + stall / 2);
  group_.OnHeard(0, sent + stall / 2);  // a heartbeat, but its plan may be lost
  EXPECT_FALSE(group_.OnTick({}, sent, sent + stall)) << "nobody owes";
  EXPECT_THAT(group_.OnTick({0, 1}, sent, sent + stall)->data(), HasSubstr("worker 0 owes"));
  group_.Void(sent + stall);
  group_.FormIfDue(sent + 2 * stall);
  EXPECT_THAT(group_.members(), ElementsAre(1));
  EXPECT_FALSE(group_.OnHeard(1, sent + 2 * stall));
  EXPECT_TRUE(group_.OnHeard(0, sent + 2 * stall));
  group_.Void(sent + 2 * stall);
  group_.FormIfDue(sent + 3 * stall);
  EXPECT_THAT(group_.members(), ElementsAre(0, 1));
}

TEST_F(WorkerGroupTest, WhenAllAreSilentAllAreAskedAgain) {
  ASSERT_FALSE(group_.OnHello(0, GoodHello(0), false, now_));
  for (size_t i = 1; i < 4; ++i) {
    group_.FormIfDue(now_);
    ASSERT_EQ(links_[0].sent.size(), i);
    now_ += Options().worker_stall_timeout;
    EXPECT_TRUE(group_.OnTick({}, now_, now_)) << "no Formed";
    group_.Void(now_);
    now_ += absl::Minutes(1);
  }
}

TEST_F(WorkerGroupTest, AStaleFormedIsIgnored) {
  FormWith({0});
  EXPECT_TRUE(group_.OnHello(0, GoodHello(0), false, now_));
  group_.Void(now_);
  group_.FormIfDue(now_ + absl::Hours(1));
  EXPECT_FALSE(group_.OnFormed(0, {group_.epoch() - 1, absl::OkStatus(), ""}));
  EXPECT_FALSE(group_.formed());
}

}  // namespace
}  // namespace pregate::scheduler
