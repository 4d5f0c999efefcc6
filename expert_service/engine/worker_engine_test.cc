#include "expert_service/engine/worker_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/collective/collective.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/tokenizer/tokenizer.h"
#include "expert_service/testing/plan_maker.h"
#include "expert_service/testing/random_model.h"
#include "expert_service/testing/tiny_worker.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

// Every look at it takes 10 ms.
class TickingClock final : public Clock {
 public:
  absl::Time Now() override { return now_ += absl::Milliseconds(10); }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

// The lines as text.
class LogLines final : public WorkerObserver {
 public:
  explicit LogLines(std::string* out)
      : log_("worker", {}, [out](absl::string_view line) { *out += std::string(line); }) {}
  void OnLog(LogLevel level, absl::string_view message, Log::Fields fields) override {
    log_.Write(level, message, fields);
  }

 private:
  const Log log_;
};

template <typename T>
std::vector<T> Only(const std::vector<FromWorker>& messages) {
  std::vector<T> out;
  for (const FromWorker& message : messages) {
    if (const T* found = std::get_if<T>(&message)) out.push_back(*found);
  }
  return out;
}

class WorkerEngineTest : public testing::Test {
 protected:
  WorkerEngineTest()
      : checkpoint_(MakeRandomModel(TinySpec(3), 5)),
        device_(MakeCpuDevice({.threads = 1})),
        observer_(&logged_) {
    WorkerEngineOptions options;
    options.incarnation = 99;
    options.progress_period = absl::Milliseconds(20);
    worker_.emplace(options, TinyWorker::MakeExecutor(*checkpoint_, device_.get(), &clock_).value(),
                    &clock_, /*collectives=*/nullptr, &observer_);
    Attach(1);
  }

  void Attach(LinkId link) {
    worker_->links().Attach(
        link, [this, link](FromWorker message) { received_[link].push_back(std::move(message)); });
  }
  // As the loop does.
  void Give(LinkId link, ToWorker message) {
    if (auto epoch = worker_->links().Arrive(link, message)) {
      worker_->Handle(link, std::move(message), *std::move(epoch));
    }
  }
  absl::Status FormEpoch(LinkId link, const Form& form) {
    received_[link].clear();
    Give(link, form);
    const auto formed = Only<Formed>(received_[link]);
    EXPECT_EQ(formed.size(), 1u);
    EXPECT_EQ(formed.at(0).epoch, form.epoch);
    return formed.at(0).status;
  }
  // A plan's result; none when the worker dropped it.
  std::optional<StepResult> Run(LinkId link, StepPlan plan) {
    received_[link].clear();
    Give(link, std::make_shared<const StepPlan>(std::move(plan)));
    const auto results = Only<StepResult>(received_[link]);
    EXPECT_LE(results.size(), 1u);
    return results.empty() ? std::nullopt : std::optional(results[0]);
  }
  static StepPlan EmptyPlan(Epoch epoch, StepId step_id) {
    StepPlan plan;
    plan.epoch = epoch;
    plan.step_id = step_id;
    return plan;
  }

  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  std::unique_ptr<Device> device_;
  TickingClock clock_;
  std::string logged_;
  LogLines observer_;
  std::optional<WorkerEngine> worker_;
  std::map<LinkId, std::vector<FromWorker>> received_;
};

TEST_F(WorkerEngineTest, ALinkBeginsWithHello) {
  const auto hellos = Only<Hello>(received_[1]);
  ASSERT_EQ(hellos.size(), 1u);
  const Hello& hello = hellos[0];
  EXPECT_EQ(hello.incarnation, 99u);
  EXPECT_EQ(hello.facts.numerics_id, device_->numerics_id(kF32Types));
  EXPECT_EQ(hello.facts.kv_blocks, TinyWorker::kBlocks);
  EXPECT_EQ(hello.facts.seq_slots, TinyWorker::kSlots);
  EXPECT_EQ(hello.facts.step_tokens, 16);
  EXPECT_EQ(hello.facts.context_tokens, 64);
  EXPECT_EQ(hello.facts.vocab_size, 131);
  EXPECT_EQ(hello.facts.num_experts, 3);
  EXPECT_EQ(hello.resident_units.size(), 6u);
  EXPECT_EQ(hello.resident_units.size() % hello.facts.num_layers, 0u);
  EXPECT_EQ(hello.facts.unit_slots, 0) << "everything fits";
  EXPECT_EQ(hello.highest_epoch, 0u);
}

TEST_F(WorkerEngineTest, AnEpochMustExceedTheSchedulersLast) {
  EXPECT_TRUE(FormEpoch(1, TinyWorker::MakeForm(5)).ok());
  EXPECT_THAT(FormEpoch(1, TinyWorker::MakeForm(4)).message(), HasSubstr("epoch 4 is not above 5"));
  Attach(2);
  EXPECT_EQ(Only<Hello>(received_[2])[0].highest_epoch, 5u);
  EXPECT_THAT(FormEpoch(2, TinyWorker::MakeForm(5)).message(),
              HasSubstr("which scheduler 'scheduler' formed"));
  EXPECT_TRUE(FormEpoch(2, TinyWorker::MakeForm(6)).ok());
  EXPECT_EQ(worker_->epoch(), 6u);
}

TEST_F(WorkerEngineTest, AnotherSchedulersFormDisturbsNothing) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(5)).ok());
  Attach(2);
  Form other = TinyWorker::MakeForm(6);
  other.scheduler_id = "other";
  EXPECT_TRUE(absl::IsPermissionDenied(FormEpoch(2, other)));
  other.epoch = ~Epoch{0};
  EXPECT_TRUE(absl::IsOutOfRange(FormEpoch(2, other)));
  EXPECT_TRUE(Run(1, EmptyPlan(5, 1))->status.ok());
}

TEST_F(WorkerEngineTest, AFreeWorkerSaysHelloToThoseWhoWait) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(5)).ok());
  Attach(2);
  received_[2].clear();
  worker_->Detach(1);
  const auto hellos = Only<Hello>(received_[2]);
  ASSERT_EQ(hellos.size(), 1u);
  EXPECT_EQ(hellos[0].highest_epoch, 5u);
  Form other = TinyWorker::MakeForm(6);
  other.scheduler_id = "other";
  EXPECT_TRUE(FormEpoch(2, other).ok());
}

// The clock moves by 10 ms with each look, and nothing comes from the first scheduler.
TEST_F(WorkerEngineTest, ASilentSchedulerLosesItsLeaseAndIsToldWhy) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(5)).ok());
  Attach(2);
  Form other = TinyWorker::MakeForm(6);
  other.scheduler_id = "other";
  received_[1].clear();
  int refused = 0;
  while (!FormEpoch(2, other).ok()) ASSERT_LT(++refused, 1000);
  EXPECT_GT(refused, 10);
  const auto told = Only<Formed>(received_[1]);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].epoch, 5u);
  EXPECT_TRUE(absl::IsPermissionDenied(told[0].status));
  EXPECT_THAT(told[0].status.message(), HasSubstr("scheduler 'other' has taken this worker"));
  EXPECT_FALSE(Run(1, EmptyPlan(5, 1)).has_value()) << "it is fenced";
}

TEST_F(WorkerEngineTest, SignsOfLifeGoToThoseWhoGiveThem) {
  worker_->SendAlive();
  EXPECT_TRUE(Only<Alive>(received_[1]).empty());
  Give(1, Renew{});
  worker_->SendAlive();
  EXPECT_EQ(Only<Alive>(received_[1]).size(), 1u);
}

TEST_F(WorkerEngineTest, RefusesAFormThatItCannotServe) {
  Form form = TinyWorker::MakeForm(1);
  form.members = {0, 1};
  EXPECT_THAT(FormEpoch(1, form).message(), HasSubstr("members has 2 ranks"));
  form.members = {3};
  EXPECT_THAT(FormEpoch(1, form).message(), HasSubstr("does not name rank 0"));
  form = TinyWorker::MakeForm(1);
  form.placement.ranks.pop_back();
  EXPECT_THAT(FormEpoch(1, form).message(),
              HasSubstr("placement names 2 experts, the model has 3"));
  form = TinyWorker::MakeForm(1);
  form.placement.ranks[1] = {4};
  EXPECT_THAT(FormEpoch(1, form).message(), HasSubstr("placement of expert 1"));
  EXPECT_EQ(worker_->epoch(), 0u);
}

TEST_F(WorkerEngineTest, PlansOfOtherEpochsAndOtherLinksAreDropped) {
  EXPECT_FALSE(Run(1, EmptyPlan(0, 1)).has_value()) << "nothing was formed";
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(5)).ok());
  EXPECT_FALSE(Run(1, EmptyPlan(4, 1)).has_value());
  EXPECT_FALSE(Run(1, EmptyPlan(6, 1)).has_value());
  Attach(2);
  EXPECT_FALSE(Run(2, EmptyPlan(5, 1)).has_value());
  EXPECT_THAT(logged_, HasSubstr("stale plan dropped"));
  const auto result = Run(1, EmptyPlan(5, 1));
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->status.ok()) << result->status;
  EXPECT_EQ(result->incarnation, 99u);
  EXPECT_EQ(result->epoch, 5u);
}

TEST_F(WorkerEngineTest, AGapVoidsTheEpochUntilTheNextForm) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  ASSERT_TRUE(Run(1, EmptyPlan(1, 1))->status.ok());
  EXPECT_THAT(Run(1, EmptyPlan(1, 3))->status.message(), HasSubstr("step_id 3 follows 1"));
  EXPECT_THAT(Run(1, EmptyPlan(1, 2))->status.message(), HasSubstr("step_id 3 follows 1"));
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(2)).ok());
  EXPECT_TRUE(Run(1, EmptyPlan(2, 1))->status.ok());
}

TEST_F(WorkerEngineTest, APlanThatIsWrongAsAWholeVoidsTheEpoch) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  StepPlan plan = EmptyPlan(1, 1);
  plan.drop = {2};
  EXPECT_THAT(Run(1, plan)->status.message(), HasSubstr("drop names slot 2"));
  EXPECT_THAT(Run(1, EmptyPlan(1, 2))->status.message(), HasSubstr("drop names slot 2"));
}

TEST_F(WorkerEngineTest, ANewEpochHasEmptySlots) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  const int32_t slot = maker.Open(7);
  maker.AddRow(slot, 0, {1, 2}, {0, 1}, Emit::kSample);
  ASSERT_EQ(Run(1, maker.Take(1))->samples.size(), 1u);
  worker_->Detach(1);

  Attach(2);
  ASSERT_TRUE(FormEpoch(2, TinyWorker::MakeForm(2)).ok());
  StepPlan late = EmptyPlan(2, 1);
  late.rows.push_back({slot, 2, 1, true, Emit::kSample});
  EXPECT_THAT(Run(2, late)->status.message(), HasSubstr("is not open"));
}

// The scheduler may go on with the KV of earlier epochs as far as nobody else has written it since.
TEST_F(WorkerEngineTest, SaysSinceWhenItsKvIsOneSchedulersAlone) {
  const auto kv_since = [&](LinkId link, Epoch epoch, const char* scheduler) {
    Form form = TinyWorker::MakeForm(epoch);
    form.scheduler_id = scheduler;
    EXPECT_TRUE(FormEpoch(link, form).ok());
    return Only<Formed>(received_[link]).at(0).kv_since;
  };
  EXPECT_EQ(kv_since(1, 3, "a"), 3u);
  EXPECT_EQ(kv_since(1, 4, "a"), 3u);
  worker_->Detach(1);
  Attach(2);
  EXPECT_EQ(kv_since(2, 4, "b"), 4u) << "a number that the other one had too";
  worker_->Detach(2);
  Attach(1);
  EXPECT_EQ(kv_since(1, 5, "a"), 5u);
  EXPECT_EQ(kv_since(1, 6, "a"), 5u);
}

TEST_F(WorkerEngineTest, KeepsItsStateWhileTheOwnerIsGone) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  worker_->Detach(1);
  received_[1].clear();
  Give(1, std::make_shared<const StepPlan>(
              EmptyPlan(1, 1)));  // was in the mailbox when the stream broke
  EXPECT_TRUE(received_[1].empty());
  EXPECT_EQ(worker_->epoch(), 1u);
}

TEST_F(WorkerEngineTest, ProgressComesWithTheStepWithinItAndWhenIdle) {
  worker_->Heartbeat();
  EXPECT_TRUE(Only<Progress>(received_[1]).empty()) << "nobody formed yet";
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  maker.AddRow(maker.Open(7), 0, {1, 2}, {0, 1}, Emit::kSample);
  const absl::Time before = worker_->last_progress();
  Run(1, maker.Take(1));
  auto progress = Only<Progress>(received_[1]);
  EXPECT_EQ(progress.size(), 5u) << "at the step's begin, before the layers, after each of two and "
                                    "after the logits, on this clock";
  EXPECT_EQ(progress[0].step_id, 1u);
  EXPECT_TRUE(std::holds_alternative<Progress>(received_[1].front()));
  EXPECT_TRUE(std::holds_alternative<StepResult>(received_[1].back()));
  EXPECT_GT(worker_->last_progress(), before);

  received_[1].clear();
  worker_->Heartbeat();
  progress = Only<Progress>(received_[1]);
  ASSERT_EQ(progress.size(), 1u);
  EXPECT_EQ(progress[0].step_id, 1u);
}

TEST_F(WorkerEngineTest, AWaitingFormStopsTheStepThatRuns) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  const Form next = TinyWorker::MakeForm(2);
  auto epoch = worker_->links().Arrive(1, next);
  ASSERT_TRUE(epoch.has_value());
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  maker.AddRow(maker.Open(7), 0, {1, 2}, {0, 1}, Emit::kSample);
  EXPECT_EQ(Run(1, maker.Take(1))->status.code(), absl::StatusCode::kAborted);
  worker_->Handle(1, next, *epoch);
  PlanMaker again(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  again.AddRow(again.Open(7), 0, {1, 2}, {0, 1}, Emit::kSample);
  EXPECT_TRUE(Run(1, again.Take(2))->status.ok());
}

TEST_F(WorkerEngineTest, ARefusedFormStopsNothing) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  Form bad = TinyWorker::MakeForm(2);
  bad.members = {};
  ASSERT_FALSE(worker_->links().Arrive(1, bad).has_value());
  EXPECT_FALSE(Only<Formed>(received_[1]).back().status.ok());
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  maker.AddRow(maker.Open(7), 0, {1, 2}, {0, 1}, Emit::kSample);
  EXPECT_TRUE(Run(1, maker.Take(1))->status.ok());
}

TEST_F(WorkerEngineTest, AFormThatWasOvertakenIsDroppedUnreadAndAnswered) {
  const Form first = TinyWorker::MakeForm(1), second = TinyWorker::MakeForm(2);
  auto overtaken = worker_->links().Arrive(1, first);
  auto last = worker_->links().Arrive(1, second);
  received_[1].clear();
  worker_->Handle(1, first, *overtaken);
  EXPECT_EQ(worker_->epoch(), 0u);
  EXPECT_TRUE(absl::IsAborted(Only<Formed>(received_[1]).at(0).status));
  worker_->Handle(1, second, *last);
  EXPECT_EQ(worker_->epoch(), 2u);
  EXPECT_TRUE(Only<Formed>(received_[1]).at(1).status.ok());
}

TEST_F(WorkerEngineTest, AVoidEpochEndsWithoutANewOne) {
  ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
  Give(1, Renew{.void_through = 0});
  PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
  const int32_t slot = maker.Open(7);
  maker.AddRow(slot, 0, {1, 2}, {0, 1}, Emit::kSample);
  EXPECT_TRUE(Run(1, maker.Take(1))->status.ok());
  Give(1, Renew{.void_through = 1});
  maker.AddRow(slot, 2, {3}, {0}, Emit::kSample);
  EXPECT_TRUE(absl::IsAborted(Run(1, maker.Take(1))->status));
}

// --- a device that is lost ---

// A group of this worker alone, whose first exchange fails.
class FailingCollective final : public Collective {
 public:
  explicit FailingCollective(absl::Status error) : error_(std::move(error)) {}
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  absl::string_view name() const override { return "failing"; }
  absl::Status AllGather(const void*, size_t, void*) override { return error_; }
  absl::Status AllToAll(const void*, absl::Span<const int32_t>, void*, absl::Span<const int32_t>,
                        size_t) override {
    return error_;
  }
  absl::Status Wait() override { return error_; }
  void Abort() override {}
  bool enqueues() const override { return false; }
  int64_t bytes_sent() const override { return 0; }

 private:
  const absl::Status error_;
};
class FailingCollectives final : public CollectiveFactory {
 public:
  explicit FailingCollectives(absl::Status error) : error_(std::move(error)) {}
  absl::StatusOr<std::string> MakeRendezvous() override { return "failing"; }
  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string&, int, int, absl::Duration,
                                                   std::stop_token) override {
    return std::make_unique<FailingCollective>(error_);
  }

 private:
  const absl::Status error_;
};

// A step fails as it does where the device is lost, or in another way.
TEST_F(WorkerEngineTest, AStepThatLosesTheDeviceEndsTheWorkerAfterItsAnswer) {
  const struct {
    absl::Status error;
    bool ends;
  } cases[] = {{absl::DataLossError("CUDA device 0 is lost to this process"), true},
               {absl::InternalError("an operation failed"), false}};
  for (const auto& [error, ends] : cases) {
    FailingCollectives collectives(error);
    int times_told = 0;
    absl::Status broken;
    WorkerEngineOptions options;
    options.exchange_alone = true;
    options.on_broken = [&](const absl::Status& why) {
      EXPECT_TRUE(std::holds_alternative<StepResult>(received_[1].back())) << "it has answered";
      broken = why;
      ++times_told;
    };
    logged_.clear();
    worker_.emplace(options, TinyWorker::MakeExecutor(*checkpoint_, device_.get(), &clock_).value(),
                    &clock_, &collectives, &observer_);
    Attach(1);
    ASSERT_TRUE(FormEpoch(1, TinyWorker::MakeForm(1)).ok());
    PlanMaker maker(TinyWorker::kSlots, TinyWorker::kBlocks, 1);
    maker.AddRow(maker.Open(7), 0, {1, 2}, {0, 1}, Emit::kSample);
    EXPECT_EQ(Run(1, maker.Take(1))->status, error);
    EXPECT_EQ(Run(1, EmptyPlan(1, 2))->status, error) << "it runs nothing more";
    EXPECT_EQ(broken, ends ? error : absl::OkStatus());
    EXPECT_EQ(times_told, ends ? 1 : 0);
    EXPECT_EQ(logged_.find("this worker cannot serve") != std::string::npos, ends) << logged_;
    if (ends) {
      EXPECT_THAT(logged_, HasSubstr(std::string(error.message())));
    }
  }
}

// --- experts that are read later ---

// A whole model, but for one tensor that cannot be read.
class DamagedCheckpoint final : public Checkpoint {
 public:
  DamagedCheckpoint(const Checkpoint* whole, std::string damaged, absl::Status error)
      : whole_(*whole), damaged_(std::move(damaged)), error_(std::move(error)) {
    spec_ = whole->spec();
  }
  std::vector<TensorInfo> Tensors() const override { return whole_.Tensors(); }
  bool Has(const std::string& name) const override { return whole_.Has(name); }
  absl::Status Read(const std::string& name, absl::Span<float> out) const override {
    return name == damaged_ ? error_ : whole_.Read(name, out);
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const override {
    return whole_.LoadTokenizer();
  }

 private:
  const Checkpoint& whole_;
  const std::string damaged_;
  const absl::Status error_;
};

// A worker that has read expert 0 at its start is to run all three. It answers, and what would have
// ended its start ends it.
TEST_F(WorkerEngineTest, AnExpertThatCannotBeReadLaterEndsTheWorkerAfterItsAnswer) {
  const struct {
    absl::Status error;
    bool ends;
  } cases[] = {{absl::DataLossError("model.safetensors: tensor x: content differs"), true},
               {absl::InvalidArgumentError("model.safetensors: infinite in bf16"), true},
               {absl::ResourceExhaustedError("out of memory"), false}};
  for (const auto& [error, ends] : cases) {
    const DamagedCheckpoint checkpoint(checkpoint_.get(),
                                       "model.layers.1.mlp.experts.2.up_proj.weight", error);
    absl::Status broken;
    WorkerEngineOptions options;
    options.on_broken = [&](const absl::Status& why) {
      EXPECT_TRUE(std::holds_alternative<Formed>(received_[1].back())) << "it has answered";
      broken = why;
    };
    ASSERT_FALSE(TinyWorker::MakeExecutor(checkpoint, device_.get(), &clock_).ok())
        << "nor would it start";
    auto executor =
        TinyWorker::MakeExecutor(checkpoint, device_.get(), &clock_, std::vector<ExpertId>{0});
    ASSERT_TRUE(executor.ok()) << executor.status();
    worker_.emplace(options, *std::move(executor), &clock_, /*collectives=*/nullptr, &observer_);
    Attach(1);
    EXPECT_EQ(FormEpoch(1, TinyWorker::MakeForm(5)), error);
    EXPECT_EQ(broken, ends ? error : absl::OkStatus());
    EXPECT_EQ(Run(1, EmptyPlan(5, 1))->status, error) << "it runs nothing";
  }
}

}  // namespace
}  // namespace pregate
