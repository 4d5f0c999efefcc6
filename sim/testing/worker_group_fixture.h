// A group of two workers on links that remember, and a time that the test moves.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler_service/engine/worker_group.h"

namespace pregate::scheduler {

class WorkerGroupTest : public testing::Test {
 protected:
  class Link final : public WorkerLink {
   public:
    void Send(ToWorker message) override { sent.push_back(std::move(message)); }
    const Form& LastForm() const { return std::get<Form>(sent.back()); }
    std::vector<ToWorker> sent;
  };

  class Observer final : public SchedulerObserver {
   public:
    void OnLog(LogLevel, absl::string_view message, Log::Fields) override {
      last = std::string(message);
      logged += std::string(message) + "\n";
    }
    std::string last, logged;
  };

  static Hello GoodHello(int32_t rank, Epoch highest = 0) {
    Hello hello;
    hello.rank = rank;
    hello.facts.model_digest = "model";
    hello.facts.numerics_id = "avx2";
    hello.facts.kv_blocks = 10;
    hello.facts.seq_slots = 4;
    hello.facts.step_tokens = 64;
    hello.facts.context_tokens = 128;
    hello.facts.vocab_size = 100;
    hello.facts.num_experts = 3;
    hello.highest_epoch = highest;
    hello.rendezvous = "meet";
    return hello;
  }

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
    options.form_wait = options.grow_wait = absl::ZeroDuration();
    return options;
  }

  Link links_[2];
  Observer observer_;
  WorkerGroup group_{Options(), {&links_[0], &links_[1]}, &observer_};
  absl::Time now_ = absl::UnixEpoch();
  int32_t lease_ms_ = 0;  // of what FormWith says hello with; 0: it gives no signs of life
};

}  // namespace pregate::scheduler
