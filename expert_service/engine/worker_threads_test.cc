#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <utility>

#include "common/collective/local/local_fabric.h"
#include "common/device/cpu/cpu_device.h"
#include "expert_service/engine/worker_engine.h"
#include "expert_service/testing/plan_maker.h"
#include "expert_service/testing/random_model.h"
#include "expert_service/testing/tiny_worker.h"

namespace pregate {
namespace {

class WorkerThreadsTest : public testing::Test {
 protected:
  WorkerThreadsTest()
      : checkpoint_(MakeRandomModel(TinySpec(3), 5)), device_(MakeCpuDevice({.threads = 1})) {
    WorkerEngineOptions options;
    options.heartbeat_period = absl::Milliseconds(5);
    worker_.emplace(options, TinyWorker::MakeExecutor(*checkpoint_, device_.get(), &clock_).value(),
                    &clock_, &fabric_, &observer_);
    worker_->Start();
  }
  ~WorkerThreadsTest() override { worker_->Stop(); }

  LinkId Attach() {
    return worker_->Attach([this](FromWorker message) { inbox_.Push(std::move(message)); });
  }
  // The next message of this type, within ten seconds.
  template <typename T>
  std::optional<T> Next() {
    const absl::Time deadline = clock_.Now() + absl::Seconds(10);
    while (clock_.Now() < deadline) {
      for (FromWorker& message : inbox_.Wait(absl::Seconds(1)))
        queue_.push_back(std::move(message));
      while (!queue_.empty()) {
        FromWorker message = std::move(queue_.front());
        queue_.pop_front();
        if (T* found = std::get_if<T>(&message)) return std::move(*found);
      }
    }
    return std::nullopt;
  }

  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  std::unique_ptr<Device> device_;
  LocalFabric fabric_;
  SystemClock clock_;
  WorkerObserver observer_;
  Mailbox<FromWorker> inbox_{100000};
  std::deque<FromWorker> queue_;
  std::optional<WorkerEngine> worker_;
};

TEST_F(WorkerThreadsTest, AnswersInOrderAndRunsOnePlanAhead) {
  const LinkId link = Attach();
  ASSERT_TRUE(Next<Hello>().has_value());
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  const int32_t slot = maker.Open(7);
  maker.AddRow(slot, 0, {1, 2}, {0, 1}, Emit::kSample);
  EXPECT_TRUE(worker_->Submit(link, TinyWorker::MakeForm(1)));
  EXPECT_TRUE(worker_->Submit(link, std::make_shared<const StepPlan>(maker.Take(1))));
  maker.AddLateRow(slot, 2, Emit::kSample);
  EXPECT_TRUE(worker_->Submit(link, std::make_shared<const StepPlan>(maker.Take(1))));
  EXPECT_TRUE(Next<Formed>()->status.ok());
  for (StepId step = 1; step <= 2; ++step) {
    const auto result = Next<StepResult>();
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->step_id, step);
    ASSERT_EQ(result->samples.size(), 1u);
    EXPECT_EQ(result->samples[0].position, static_cast<int32_t>(step) + 1);
  }
}

TEST_F(WorkerThreadsTest, BeatsWhileIdle) {
  const LinkId link = Attach();
  worker_->Submit(link, TinyWorker::MakeForm(1));
  ASSERT_TRUE(Next<Formed>().has_value());
  const absl::Time formed = worker_->last_progress();
  EXPECT_TRUE(Next<Progress>().has_value());
  EXPECT_GT(worker_->last_progress(), formed);
}

TEST_F(WorkerThreadsTest, AReconnectingSchedulerFormsTheNextEpoch) {
  const LinkId first = Attach();
  worker_->Submit(first, TinyWorker::MakeForm(1));
  ASSERT_TRUE(Next<Formed>()->status.ok());
  worker_->Detach(first);
  const LinkId second = Attach();
  EXPECT_NE(first, second);
  EXPECT_EQ(Next<Hello>()->highest_epoch, 1u);
  worker_->Submit(second, TinyWorker::MakeForm(2));
  EXPECT_TRUE(Next<Formed>()->status.ok());
}

TEST_F(WorkerThreadsTest, AStoppedLoopTakesNothing) {
  const LinkId link = Attach();
  worker_->Stop();
  worker_->Stop();
  EXPECT_FALSE(worker_->Submit(link, TinyWorker::MakeForm(1)));
  EXPECT_EQ(Attach(), 0u);
}

// Rank 1 never comes.
Form WithAGhost(Epoch epoch, const std::string& rendezvous) {
  Form form = TinyWorker::MakeForm(epoch);
  form.members = {0, 1};
  form.rendezvous = rendezvous;
  return form;
}

TEST_F(WorkerThreadsTest, ANewerFormEndsAJoinAndOvertakesWhatWaitsBehindIt) {
  const LinkId link = Attach();
  std::string rendezvous = Next<Hello>()->rendezvous;
  ASSERT_FALSE(rendezvous.empty());
  const absl::Time start = clock_.Now();
  for (Epoch epoch = 1; epoch <= 5; ++epoch) {
    ASSERT_TRUE(worker_->Submit(link, WithAGhost(epoch, rendezvous)));
  }
  ASSERT_TRUE(worker_->Submit(link, TinyWorker::MakeForm(6)));
  for (Epoch epoch = 1; epoch <= 5; ++epoch) {
    const auto formed = Next<Formed>();
    ASSERT_TRUE(formed.has_value());
    EXPECT_EQ(formed->epoch, epoch);
    EXPECT_TRUE(absl::IsAborted(formed->status)) << formed->status;
    EXPECT_NE(formed->rendezvous, rendezvous) << "good for one group";
  }
  EXPECT_TRUE(Next<Formed>()->status.ok());
  EXPECT_LT(clock_.Now() - start, absl::Seconds(5)) << "of the 60 that a join may take";
}

TEST_F(WorkerThreadsTest, ALoopThatJoinsSaysHelloAndThatItLivesAndWaits) {
  const LinkId link = Attach();
  const std::string rendezvous = Next<Hello>()->rendezvous;
  ASSERT_TRUE(worker_->Submit(link, Renew{}));
  ASSERT_TRUE(worker_->Submit(link, WithAGhost(1, rendezvous)));
  std::optional<Alive> alive;
  do {
    alive = Next<Alive>();
  } while (alive && !alive->waits_for_peers);
  EXPECT_TRUE(alive.has_value());
  Attach();
  EXPECT_EQ(Next<Hello>()->highest_epoch, 1u);
}

TEST_F(WorkerThreadsTest, StopEndsAJoin) {
  const LinkId link = Attach();
  const std::string rendezvous = Next<Hello>()->rendezvous;
  ASSERT_TRUE(worker_->Submit(link, WithAGhost(1, rendezvous)));
  ASSERT_TRUE(Next<Progress>().has_value()) << "it joins";
  const absl::Time start = clock_.Now();
  worker_->Stop();
  EXPECT_LT(clock_.Now() - start, absl::Seconds(5));
}

}  // namespace
}  // namespace pregate
