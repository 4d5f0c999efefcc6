// The engine's rules one by one, against a script: every turn of the loop is written down here.
#include "scheduler_service/engine/scheduler_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <utility>
#include <variant>

#include "sim/testing/fake_router.h"
#include "sim/testing/letter_tokenizer.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Client {
  void Take(const StartInfo& info) { start = info; }
  void Take(const PromptOut& out) {
    EXPECT_EQ(out.position, static_cast<int32_t>(prompt_logprobs.size()) + 1);
    EXPECT_TRUE(tokens.empty());
    prompt_logprobs.insert(prompt_logprobs.end(), out.logprobs.begin(), out.logprobs.end());
  }
  void Take(const ChoiceDone&) { FAIL(); }
  void Take(const TokensOut& out) {
    logprobs.insert(logprobs.end(), out.logprobs.begin(), out.logprobs.end());
    tokens.insert(tokens.end(), out.tokens.begin(), out.tokens.end());
    routes.insert(routes.end(), out.routes.begin(), out.routes.end());
  }
  void Take(const DoneInfo& info) { done = info; }
  StartInfo start;
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  std::vector<std::vector<TokenLogprob>> logprobs, prompt_logprobs;
  std::optional<DoneInfo> done;
};

class EngineTest : public testing::Test, public Inbox, public WorkerLink, public SchedulerObserver {
 protected:
  // Each turn may look at what was sent so far and returns what arrives next.
  using Turn = std::function<std::vector<EngineEvent>()>;

  std::vector<EngineEvent> Wait(absl::Time deadline) override {
    deadline_ = deadline;
    if (turns_.empty()) {
      clock_.Advance(absl::Seconds(1));
      return Events(DrainEvent{});
    }
    const Turn turn = std::move(turns_.front());
    turns_.pop_front();
    return turn();
  }
  void Send(ToWorker message) override { to_worker_.push_back(std::move(message)); }
  void OnRecovery(const std::string& reason) override { recoveries_.push_back(reason); }
  void OnLog(LogLevel level, absl::string_view message, Log::Fields) override {
    if (level == LogLevel::kWarning) warnings_.emplace_back(message);
  }

  template <typename... E>
  static std::vector<EngineEvent> Events(E... events) {
    std::vector<EngineEvent> out;
    (out.push_back(std::move(events)), ...);
    return out;
  }
  void Then(Turn turn) { turns_.push_back(std::move(turn)); }
  template <typename E>
  void ThenEvent(E event) {
    Then([=] { return Events(event); });
  }

  Hello MakeHello() {
    Hello hello;
    hello.incarnation = 5;
    hello.facts.model_digest = "model";
    if (num_experts_ > 0) hello.facts.router_digest = "r";
    hello.facts.numerics_id = "scalar";
    hello.facts.kv_blocks = kv_blocks_;
    hello.facts.seq_slots = 4;
    hello.facts.step_tokens = 64;
    hello.facts.context_tokens = 128;
    hello.facts.vocab_size = 48;
    hello.facts.num_experts = num_experts_;
    return hello;
  }
  void ThenFormed() {
    ThenEvent(WorkerEvent{0, MakeHello()});
    Then([this] { return Events(WorkerEvent{0, Formed{LastForm().epoch, absl::OkStatus(), ""}}); });
  }
  const Form& LastForm() { return std::get<Form>(to_worker_.back()); }
  const StepPlan& LastPlan() {
    return *std::get<std::shared_ptr<const StepPlan>>(to_worker_.back());
  }
  int NumPlans() const {
    return static_cast<int>(
        std::count_if(to_worker_.begin(), to_worker_.end(), [](const ToWorker& m) {
          return std::holds_alternative<std::shared_ptr<const StepPlan>>(m);
        }));
  }
  StepResult Answer(StepId step_id, std::vector<Sample> samples) {
    StepResult result;
    for (const ToWorker& m : to_worker_) {
      if (const Form* form = std::get_if<Form>(&m)) result.epoch = form->epoch;
    }
    result.incarnation = 5;
    result.step_id = step_id;
    result.samples = std::move(samples);
    return result;
  }
  SubmitEvent Submit(std::vector<TokenId> prompt, int32_t max_tokens) {
    clients_.push_back(std::make_shared<Client>());
    SubmitEvent event;
    event.link = clients_.size();
    event.request.prompt = std::move(prompt);
    event.request.seed = 9;
    event.request.max_tokens = max_tokens;
    event.send = SendTo(clients_.back());
    return event;
  }
  void Run() {
    EngineParts parts;
    parts.clock = &clock_;
    parts.inbox = this;
    parts.router = &router_link_;
    parts.workers = {this};
    parts.tokenizer = &tokenizer_;
    parts.random = &random_;
    parts.observer = this;
    parts.answers = &answers_;
    engine_ = std::make_unique<SchedulerEngine>(options_, parts);
    engine_->Run();
  }

  struct RouterRecorder final : RouterLink {
    void Send(ToRouter message) override { sent.push_back(std::move(message)); }
    std::vector<ToRouter> sent;
  };

  // How many answers each step announced, and whether one is under way.
  struct Batches final : AnswerBatch {
    void Begin(size_t num_answers) override {
      announced.push_back(num_answers);
      open = true;
    }
    void End() override { open = false; }
    std::vector<size_t> announced;
    bool open = false;
  };

  EngineOptions options_;
  std::vector<std::string> warnings_;
  Batches answers_;
  int32_t num_experts_ = 0;
  int32_t kv_blocks_ = 20;
  ManualClock clock_;
  absl::Time deadline_;
  std::deque<Turn> turns_;
  std::vector<ToWorker> to_worker_;
  RouterRecorder router_link_;
  LetterTokenizer tokenizer_{48};
  SplitMix64 random_{1};
  std::vector<std::shared_ptr<Client>> clients_;
  std::vector<std::string> recoveries_;
  std::unique_ptr<SchedulerEngine> engine_;
};

TEST_F(EngineTest, RefusesBeforeAWorkerAttachesAndWhileDraining) {
  ThenEvent(Submit({3}, 1));
  ThenFormed();
  Then([this] {
    const SubmitEvent before = Submit({4}, 2), after = Submit({5}, 1);
    return Events(before, DrainEvent{}, after);
  });
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 1, 7, kNoRoute, {}}})}); });
  Then([this] { return Events(WorkerEvent{0, Answer(2, {{1, 2, 8, kNoRoute, {}}})}); });
  Run();
  EXPECT_TRUE(absl::IsUnavailable(clients_[0]->done->status));
  EXPECT_THAT(clients_[1]->tokens, ElementsAre(7, 8)) << "what was admitted is finished";
  EXPECT_TRUE(clients_[1]->done->status.ok());
  EXPECT_THAT(std::string(clients_[2]->done->status.message()), HasSubstr("draining"));
}

TEST_F(EngineTest, RunsAheadByOnePlanAndDiscardsTheSamplePastAStop) {
  ThenFormed();
  ThenEvent(Submit({3, 4}, 5));
  Then([this] {
    EXPECT_EQ(NumPlans(), 2);
    EXPECT_TRUE(LastPlan().rows[0].late);
    EXPECT_EQ(LastPlan().rows[0].position, 2);
    return Events(WorkerEvent{0, Answer(1, {{1, 2, 0, kNoRoute, {}}})});  // token 0 ends the text
  });
  Then([this] {
    EXPECT_TRUE(clients_[0]->done.has_value());
    EXPECT_EQ(NumPlans(), 2)
        << "the slot is dropped when the late step is over, or with the next plan";
    return Events(WorkerEvent{0, Answer(2, {{1, 3, 7, kNoRoute, {}}})});
  });
  Then([this] {
    EXPECT_EQ(NumPlans(), 3);
    EXPECT_THAT(LastPlan().drop, ElementsAre(0));
    EXPECT_TRUE(LastPlan().rows.empty());
    return Events(WorkerEvent{0, Answer(3, {})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(0));
  EXPECT_EQ(clients_[0]->done->reason, FinishReason::kStopToken);
  EXPECT_TRUE(recoveries_.empty());
}

TEST_F(EngineTest, AStepsAnswersAreOneBatch) {
  ThenFormed();
  Then([this] {
    SubmitEvent a = Submit({3}, 1), b = Submit({4}, 1);
    for (SubmitEvent* event : {&a, &b}) {
      event->send = [this, send = event->send](const ToClient& message) {
        EXPECT_EQ(answers_.open, std::holds_alternative<TokensOut>(message) ||
                                     std::holds_alternative<DoneInfo>(message));
        send(message);
      };
    }
    return Events(a, b);
  });
  Then([this] {
    return Events(WorkerEvent{0, Answer(1, {{1, 1, 7, kNoRoute, {}}, {2, 1, 8, kNoRoute, {}}})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(7));
  EXPECT_THAT(answers_.announced, ElementsAre(2));
  EXPECT_FALSE(answers_.open);
}

TEST_F(EngineTest, WorkerHasTheTraceOfARequest) {
  ThenFormed();
  Then([this] {
    SubmitEvent traced = Submit({3}, 1);
    traced.request.traceparent = "a trace";
    return Events(traced, Submit({4}, 1));
  });
  Then([this] {
    std::vector<std::string> traces;
    for (const SequenceAdd& add : LastPlan().add) traces.push_back(add.traceparent);
    EXPECT_THAT(traces, ElementsAre("a trace", ""));
    return Events(WorkerEvent{0, Answer(1, {{1, 1, 7, kNoRoute, {}}, {2, 1, 8, kNoRoute, {}}})});
  });
  Run();
}

TEST_F(EngineTest, TheBoardShowsStepsAndWorkers) {
  ThenFormed();
  ThenEvent(Submit({3, 4}, 2));
  Then([this] {
    EXPECT_EQ(engine_->board().Read().gauges.requests_running, 1);
    EXPECT_THAT(engine_->board().Read().steps, testing::IsEmpty()) << "none is answered";
    clock_.Advance(absl::Milliseconds(3));
    StepResult result = Answer(1, {{1, 2, 7, kNoRoute, {}}});
    result.step_us = 1000;
    result.unit_hits = 4;
    result.unit_misses = 2;
    result.stall_us = 300;
    return Events(WorkerEvent{0, result});
  });
  Then([this] {
    StepResult result = Answer(2, {{1, 3, 8, kNoRoute, {}}});
    result.unit_hits = 1;
    return Events(WorkerEvent{0, result});
  });
  Then([this] {
    const ClusterStanding standing = engine_->board().Read();
    EXPECT_TRUE(standing.serving);
    EXPECT_EQ(standing.epoch, LastPlan().epoch);
    EXPECT_EQ(standing.gauges.requests_running, 0);
    EXPECT_EQ(standing.workers.size(), 1);
    EXPECT_TRUE(standing.workers[0].up && standing.workers[0].member);
    EXPECT_EQ(standing.workers[0].tally.hits, 5);
    EXPECT_EQ(standing.workers[0].tally.misses, 2);
    EXPECT_EQ(standing.workers[0].tally.stall_us, 300);
    EXPECT_EQ(standing.steps.size(), 2) << "one without rows is not shown";
    const StepRecord &prompt = standing.steps[0], &decode = standing.steps[1];
    EXPECT_EQ(prompt.number, 1);
    EXPECT_EQ(prompt.round_trip, absl::Milliseconds(3));
    EXPECT_EQ(prompt.step_us, 1000);
    EXPECT_EQ(prompt.prefill_rows, 1);
    EXPECT_EQ(prompt.prefill_tokens, 2);
    EXPECT_EQ(prompt.decode_rows, 0);
    EXPECT_EQ(prompt.units.misses, 2);
    EXPECT_EQ(decode.decode_rows, 1);
    EXPECT_EQ(decode.prefill_rows, 0);
    EXPECT_EQ(decode.prefill_tokens, 0);
    return Events(WorkerDown{0, "gone"});
  });
  Then([this] {
    const ClusterStanding standing = engine_->board().Read();
    EXPECT_FALSE(standing.serving);
    EXPECT_FALSE(standing.workers[0].up || standing.workers[0].member);
    EXPECT_EQ(standing.steps.size(), 2) << "they outlive their epoch";
    return Events(DrainEvent{});
  });
  Run();
}

TEST_F(EngineTest, AResultOfAnotherEpochOrIncarnationIsIgnored) {
  ThenFormed();
  ThenEvent(Submit({3, 4}, 1));
  Then([this] {
    StepResult old_epoch = Answer(1, {{1, 2, 7, kNoRoute, {}}}), old_process = old_epoch;
    --old_epoch.epoch;
    --old_process.incarnation;
    return Events(WorkerEvent{0, old_epoch}, WorkerEvent{0, old_process});
  });
  Then([this] {
    EXPECT_FALSE(clients_[0]->done.has_value());
    return Events(WorkerEvent{0, Answer(1, {{1, 2, 8, kNoRoute, {}}})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(8));
  EXPECT_TRUE(recoveries_.empty());
}

TEST_F(EngineTest, AWorkerThatRefusesLateRowsIsServedInLockstep) {
  ThenFormed();
  ThenEvent(Submit({3, 4}, 3));
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 2, 7, kNoRoute, {}}})}); });
  Then([this] {
    StepResult refusal = Answer(2, {});
    refusal.status = absl::FailedPreconditionError("late rows do not fit");
    return Events(WorkerEvent{0, refusal});
  });
  Then([this] { return Events(WorkerEvent{0, Formed{LastForm().epoch, absl::OkStatus(), ""}}); });
  Then([this] {
    EXPECT_EQ(LastPlan().step_id, 1u) << "no second plan";
    EXPECT_THAT(LastPlan().rows[0].tokens, ElementsAre(3, 4, 7));
    return Events(WorkerEvent{0, Answer(1, {{1, 3, 8, kNoRoute, {}}})});
  });
  Then([this] {
    EXPECT_FALSE(LastPlan().rows[0].late);
    return Events(WorkerEvent{0, Answer(2, {{1, 4, 9, kNoRoute, {}}})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(7, 8, 9));
  EXPECT_EQ(recoveries_.size(), 1u);
}

TEST_F(EngineTest, ABadRowFailsItsSequenceAlone) {
  ThenFormed();
  Then([this] {
    const SubmitEvent bad = Submit({3}, 1), good = Submit({4}, 1);
    return Events(bad, good);
  });
  Then([this] {
    StepResult result = Answer(1, {{2, 1, 7, kNoRoute, {}}});
    result.row_errors = {{1, "logits are not finite"}};
    return Events(WorkerEvent{0, result});
  });
  Run();
  EXPECT_THAT(std::string(clients_[0]->done->status.message()), HasSubstr("logits are not finite"));
  EXPECT_TRUE(clients_[1]->done->status.ok());
  EXPECT_TRUE(recoveries_.empty());
}

TEST_F(EngineTest, LogprobsOfPromptAndAnswerReachTheClient) {
  options_.run_ahead = false;
  ThenFormed();
  Then([this] {
    SubmitEvent event = Submit({3, 4, 5}, 2);
    event.request.logprobs = 0;
    event.request.prompt_logprobs = 1;
    return Events(event);
  });
  Then([this] {
    EXPECT_EQ(LastPlan().rows.size(), 2u);
    StepResult result = Answer(1, {{1, 3, 7, kNoRoute, {{7, -1}, {8, -0.5f}}}});
    result.scores = {{1, 0, {-2, -3}, {0, 0}, {{{4, -2}, {9, -1}}, {{5, -3}, {9, -1}}}}};
    return Events(WorkerEvent{0, result});
  });
  Then([this] { return Events(WorkerEvent{0, Answer(2, {{1, 4, 8, kNoRoute, {{8, -2}}}})}); });
  Run();
  const Client& client = *clients_[0];
  ASSERT_TRUE(client.done->status.ok()) << client.done->status;
  ASSERT_EQ(client.prompt_logprobs.size(), 2u);
  EXPECT_EQ(client.prompt_logprobs[1][0].token, 5);
  EXPECT_EQ(client.prompt_logprobs[1][1].token, 9);
  ASSERT_EQ(client.logprobs.size(), 2u);
  EXPECT_EQ(client.logprobs[0].size(), 1u) << "no alternatives were asked for";
  EXPECT_EQ(client.logprobs[0][0].logprob, -1);
}

TEST_F(EngineTest, ScoresThatAreLeftOutVoidTheEpoch) {
  ThenFormed();
  Then([this] {
    SubmitEvent event = Submit({3, 4}, 2);
    event.request.prompt_logprobs = 0;
    return Events(event);
  });
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 2, 7, kNoRoute, {}}})}); });
  Run();
  EXPECT_THAT(recoveries_, ElementsAre(HasSubstr("left out")));
}

TEST_F(EngineTest, HigherPrioritiesEnterFirst) {
  options_.run_ahead = false;
  ThenFormed();
  Then([this] {
    std::vector<EngineEvent> events;
    for (int i = 0; i < 6; ++i) {
      events.push_back(Submit({3}, 1));
      std::get<SubmitEvent>(events.back()).request.priority = i;
    }
    return events;
  });
  Then([this] {
    std::vector<SeqId> ids;
    for (const SequenceAdd& add : LastPlan().add) ids.push_back(add.seq_id);
    EXPECT_THAT(ids, ElementsAre(6, 5, 4, 3));
    return Events();
  });
  Run();
}

TEST_F(EngineTest, AnotherClientNeedNotWaitForAllRequestsOfAGreedyOne) {
  options_.run_ahead = false;
  ThenFormed();
  Then([this] {
    std::vector<EngineEvent> events;
    for (int i = 0; i < 10; ++i) events.push_back(Submit({3}, 1));  // four fit
    SubmitEvent other = Submit({4}, 1);
    other.request.client = 1;
    events.push_back(other);
    return events;
  });
  Then([this] {
    std::vector<Sample> samples;
    for (SeqId id = 1; id <= 4; ++id) samples.push_back({id, 1, 7, kNoRoute, {}});
    return Events(WorkerEvent{0, Answer(1, samples)});
  });
  Then([this] {
    const std::vector<SequenceAdd>& add = LastPlan().add;
    EXPECT_TRUE(std::any_of(add.begin(), add.end(), [](const auto& a) { return a.seq_id == 11; }));
    EXPECT_EQ(add.size(), 4u);
    return Events();
  });
  Run();
}

TEST_F(EngineTest, AClientThatRunsNothingGetsASlotOfOneThatRunsSeveral) {
  options_.run_ahead = false;
  ThenFormed();
  Then([this] { return Events(Submit({3}, 5), Submit({3}, 5), Submit({3}, 5), Submit({3}, 5)); });
  Then([this] {
    SubmitEvent other = Submit({4}, 1);
    other.request.client = 1;
    return Events(other);
  });
  Then([this] {
    std::vector<Sample> samples;
    for (SeqId id = 1; id <= 4; ++id) samples.push_back({id, 1, 7, kNoRoute, {}});
    return Events(WorkerEvent{0, Answer(1, samples)});
  });
  Then([this] {
    EXPECT_EQ(LastPlan().add.size(), 1u);
    EXPECT_EQ(LastPlan().add[0].seq_id, 5);
    EXPECT_EQ(LastPlan().drop.size(), 1u);
    EXPECT_EQ(LastPlan().rows.size(), 4u);
    return Events(WorkerEvent{0, Answer(2, {{1, 2, 7, kNoRoute, {}},
                                            {2, 2, 7, kNoRoute, {}},
                                            {3, 2, 7, kNoRoute, {}},
                                            {5, 1, 7, kNoRoute, {}}})});
  });
  Then([this] {  // the one that gave way comes back
    EXPECT_EQ(LastPlan().add.size(), 1u);
    EXPECT_EQ(LastPlan().add[0].seq_id, 4);
    return Events();
  });
  Run();
  EXPECT_TRUE(clients_[4]->done->status.ok());
}

TEST_F(EngineTest, ARequestThatBreaksTheWorkersAgainAndAgainFails) {
  options_.recoveries_max = 3;
  ThenFormed();
  ThenEvent(Submit({3}, 1));
  for (int i = 0; i < 4; ++i) {
    ThenEvent(WorkerDown{0, "crash"});
    Then([this] {
      clock_.Advance(absl::Seconds(3));  // past the backoff
      return Events();
    });
    ThenFormed();
  }
  Run();
  ASSERT_TRUE(clients_[0]->done.has_value());
  EXPECT_THAT(std::string(clients_[0]->done->status.message()),
              HasSubstr("3 times in a row with this request"));
  EXPECT_EQ(engine_->batch().num_waiting(), 0);
}

TEST_F(EngineTest, CancelAndDeadlineFreeTheBlocksAtOnce) {
  ThenFormed();
  Then([this] {
    SubmitEvent timed = Submit({3}, 9);
    timed.request.deadline = clock_.Now() + absl::Milliseconds(30);
    const SubmitEvent other = Submit({4}, 9);
    return Events(timed, other);
  });
  Then([this] {
    EXPECT_EQ(engine_->batch().num_blocks_used(), 2);
    EXPECT_EQ(deadline_, clock_.Now() + absl::Milliseconds(30))
        << "the loop wakes for the deadline";
    return Events(DetachEvent{2}, DetachEvent{77});
  });
  Then([this] {
    EXPECT_EQ(engine_->batch().num_blocks_used(), 1);
    EXPECT_EQ(clients_[1]->done->reason, FinishReason::kCancelled);
    clock_.Advance(absl::Milliseconds(30));
    return Events();
  });
  Run();
  EXPECT_EQ(clients_[0]->done->reason, FinishReason::kDeadline);
  EXPECT_TRUE(absl::IsDeadlineExceeded(clients_[0]->done->status));
  EXPECT_EQ(engine_->batch().num_blocks_used(), 0);
}

TEST_F(EngineTest, RoutesComeFromTheRouterOnceAndTravelInTheRows) {
  num_experts_ = 3;
  ThenFormed();
  ThenEvent(RouterEvent{RouterHello{1, "r", 3, 48}});
  ThenEvent(Submit({3, 4}, 2));
  Then([this] {
    EXPECT_EQ(NumPlans(), 0) << "no route, no row";
    return Events(RouterEvent{RouteResponse{1, 0, {2, 1}, false, 0, ""}});
  });
  Then([this] {
    EXPECT_THAT(std::get<std::shared_ptr<const StepPlan>>(to_worker_[1])->rows[0].routes,
                ElementsAre(2, 1));
    EXPECT_THAT(clients_[0]->start.prompt_routes, ElementsAre(2, 1));
    EXPECT_EQ(std::get<CloseSession>(router_link_.sent.back()).seq_id, 1u)
        << "the replica routes from here";
    return Events(WorkerEvent{0, Answer(1, {{1, 2, 7, 0, {}}})});
  });
  Then([this] { return Events(WorkerEvent{0, Answer(2, {{1, 3, 8, 1, {}}})}); });
  Run();
  EXPECT_THAT(clients_[0]->routes, ElementsAre(0, 1));
}

TEST_F(EngineTest, ARoutedPrefixRunsAndTheClientHearsWhenAllIsRouted) {
  num_experts_ = 3;
  options_.step_tokens = 4;
  ThenFormed();
  ThenEvent(RouterEvent{RouterHello{1, "r", 3, 48}});
  ThenEvent(Submit({3, 4, 5, 6, 7, 8}, 1));
  Then([this] {
    EXPECT_EQ(std::get<RouteRequest>(router_link_.sent.back()).tokens.size(), 2u);
    return Events(RouterEvent{RouteResponse{1, 0, {2, 1}, false, 0, ""}});
  });
  Then([this] {
    EXPECT_EQ(NumPlans(), 1);
    EXPECT_THAT(LastPlan().rows[0].routes, ElementsAre(2, 1));
    EXPECT_EQ(LastPlan().rows[0].emit, Emit::kNone);
    EXPECT_TRUE(clients_[0]->start.model_digest.empty()) << "its prompt is not routed yet";
    EXPECT_EQ(std::get<RouteRequest>(router_link_.sent.back()).base, 2);
    return Events(RouterEvent{RouteResponse{1, 2, {0, 0, 1, 1}, false, 0, ""}});
  });
  Then([this] {
    EXPECT_EQ(LastPlan().rows[0].emit, Emit::kSample);
    EXPECT_THAT(clients_[0]->start.prompt_routes, ElementsAre(2, 1, 0, 0, 1, 1));
    return Events(WorkerEvent{0, Answer(1, {})}, WorkerEvent{0, Answer(2, {{1, 6, 7, 0, {}}})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(7));
}

TEST_F(EngineTest, WhereExpertsDoNotFitUnitsAreWantedAndPlansAreInLockstep) {
  options_.eviction = "next_use";
  num_experts_ = 3;
  Hello hello = MakeHello();
  hello.facts.num_layers = 2;
  hello.facts.unit_slots = 4;
  ThenEvent(WorkerEvent{0, hello});
  Then([this] { return Events(WorkerEvent{0, Formed{LastForm().epoch, absl::OkStatus(), ""}}); });
  ThenEvent(RouterEvent{RouterHello{1, "r", 3, 48}});
  ThenEvent(Submit({3, 4}, 3));
  ThenEvent(RouterEvent{RouteResponse{1, 0, {2, 2}, false, 0, ""}});
  Then([this] {
    EXPECT_EQ(NumPlans(), 1) << "a late row may name any expert";
    EXPECT_EQ(LastPlan().wanted.size(), 1u);
    EXPECT_EQ(LastPlan().wanted[0].load_first, 2);
    EXPECT_EQ(LastPlan().wanted[0].units[0], (UnitId{0, 2}));
    StepResult result = Answer(1, {{1, 2, 7, 2, {}}});
    result.unit_events = {{1, {0, 2}, UnitState::kLoading},
                          {2, {0, 2}, UnitState::kResident},
                          {4, {1, 2}, UnitState::kResident}};
    return Events(WorkerEvent{0, result});
  });
  Then([this] {
    EXPECT_THAT(warnings_, ElementsAre(HasSubstr("unit event 4 follows 2")));
    EXPECT_EQ(NumPlans(), 2);
    EXPECT_TRUE(LastPlan().wanted.empty()) << "nothing has changed";
    return Events(WorkerEvent{0, Answer(2, {{1, 3, 8, 0, {}}})});
  });
  Then([this] {
    EXPECT_EQ(LastPlan().wanted[0].units[0], (UnitId{0, 0}));
    return Events(WorkerEvent{0, Answer(3, {{1, 4, 9, 0, {}}})});
  });
  Run();
  EXPECT_THAT(clients_[0]->tokens, ElementsAre(7, 8, 9));
}

TEST_F(EngineTest, ARouterOfAnotherModelIsRefused) {
  num_experts_ = 3;
  ThenFormed();
  ThenEvent(RouterEvent{RouterHello{1, "r", 4, 48}});
  ThenEvent(Submit({3, 4}, 2));
  ThenEvent(RouterEvent{RouterHello{2, "same shapes, other weights", 3, 48}});
  Then([this] {
    EXPECT_TRUE(router_link_.sent.empty());
    EXPECT_FALSE(engine_->health().Ready(clock_.Now(), absl::Seconds(1)));
    return Events(RouterEvent{RouterHello{3, "r", 3, 48}});
  });
  Then([this] {
    EXPECT_EQ(router_link_.sent.size(), 1u);
    return Events(DetachEvent{1});
  });
  Run();
}

TEST_F(EngineTest, ASilentRouterIsNotReadyUntilItIsHeardAgain) {
  const auto ready = [this] {
    return engine_->health().Ready(clock_.Now(), absl::Milliseconds(700));
  };
  const auto advance = [this] {
    clock_.Advance(absl::Milliseconds(400));
    return Events(WorkerEvent{0, Progress{LastForm().epoch, 0}});
  };
  num_experts_ = 3;
  ThenFormed();
  ThenEvent(RouterEvent{RouterHello{1, "r", 3, 48, true}});
  Then([&] {
    EXPECT_TRUE(ready());
    EXPECT_TRUE(std::holds_alternative<RouterPing>(router_link_.sent.back()));
    return advance();
  });
  Then([&] {
    EXPECT_TRUE(ready());
    return advance();
  });
  Then([&] {
    EXPECT_FALSE(ready()) << "nothing for 800 ms";
    return Events(RouterEvent{RouterPong{}});
  });
  Then([&] {
    EXPECT_TRUE(ready());
    return Events();
  });
  Run();
}

TEST_F(EngineTest, ReadyMeansThatLoopAndWorkerMakeProgress) {
  const auto ready = [this] {
    return engine_->health().Ready(clock_.Now(), absl::Milliseconds(700));
  };
  Then([&] {
    EXPECT_FALSE(ready()) << "no worker";
    return Events(WorkerEvent{0, MakeHello()});
  });
  Then([&] {
    EXPECT_FALSE(ready()) << "not formed";
    return Events(WorkerEvent{0, Formed{LastForm().epoch, absl::OkStatus(), ""}});
  });
  Then([&] {
    EXPECT_TRUE(ready());
    EXPECT_LE(deadline_ - clock_.Now(), absl::Milliseconds(100)) << "an idle loop turns";
    clock_.Advance(absl::Milliseconds(701));
    EXPECT_FALSE(ready()) << "the loop is stuck";
    return Events();
  });
  Then([&] {
    EXPECT_FALSE(ready()) << "the worker is silent";
    return Events(WorkerEvent{0, Progress{LastForm().epoch, 0}});
  });
  Then([&] {
    EXPECT_TRUE(ready());
    return Events(WorkerDown{0, "gone"});
  });
  Then([&] {
    EXPECT_FALSE(ready());
    return Events(DrainEvent{});
  });
  Run();
}

TEST_F(EngineTest, ASequenceThatTheNewWorkerCannotHoldFails) {
  ThenFormed();
  ThenEvent(Submit(std::vector<TokenId>(40, 3), 60));
  Then([this] {
    kv_blocks_ = 3;
    return Events(WorkerDown{0, "replaced"}, WorkerEvent{0, MakeHello()});
  });
  Then([this] {
    clock_.Advance(absl::Minutes(1));
    return Events();
  });
  Then([this] { return Events(WorkerEvent{0, Formed{LastForm().epoch, absl::OkStatus(), ""}}); });
  Run();
  EXPECT_THAT(std::string(clients_[0]->done->status.message()), HasSubstr("hold 48 tokens"));
}

TEST_F(EngineTest, ADrainThatLastsTooLongEnds) {
  ThenEvent(WorkerEvent{0, MakeHello()});
  ThenEvent(Submit({3}, 5));
  Run();  // the worker never answers Form; each turn after the script takes a second
  EXPECT_TRUE(absl::IsUnavailable(clients_[0]->done->status));
  EXPECT_EQ(clients_[0]->done->total, options_.drain_timeout + absl::Seconds(1));
}

TEST_F(EngineTest, AMessageOfARankThatDoesNotExistIsIgnored) {
  ThenEvent(WorkerEvent{7, MakeHello()});
  ThenEvent(WorkerEvent{-1, MakeHello()});
  ThenEvent(WorkerDown{7, "?"});
  Run();
  EXPECT_TRUE(to_worker_.empty());
}

TEST_F(EngineTest, AResumeThatIsCompleteAlreadyEndsAtOnce) {
  ThenFormed();
  Then([this] {
    SubmitEvent event = Submit({3}, 9);
    event.request.resume_tokens = {7, 0};
    return Events(event);
  });
  Run();
  EXPECT_EQ(clients_[0]->done->reason, FinishReason::kStopToken);
  EXPECT_EQ(clients_[0]->done->generated_tokens, 2);
  EXPECT_TRUE(clients_[0]->tokens.empty());
}

// 40 tokens, of which two blocks are full.
std::vector<TokenId> LongPrompt() {
  std::vector<TokenId> prompt(40);
  for (int32_t i = 0; i < 40; ++i) prompt[i] = 1 + i;
  return prompt;
}

TEST_F(EngineTest, WhatAPromptSharesWithOneBeforeIsNotComputedAgain) {
  ThenFormed();
  ThenEvent(Submit(LongPrompt(), 1));
  Then([this] {
    EXPECT_TRUE(LastPlan().add[0].history.empty());
    EXPECT_EQ(LastPlan().rows[0].count, 40);
    return Events(WorkerEvent{0, Answer(1, {{1, 40, 7, kNoRoute, {}}})});
  });
  Then([this] {
    SubmitEvent like_it = Submit(LongPrompt(), 1);
    like_it.request.prompt.push_back(2);
    return Events(like_it);
  });
  Then([this] {
    const StepPlan& plan = LastPlan();
    const std::vector<TokenId> prompt = LongPrompt();
    EXPECT_EQ(plan.add[0].history, std::vector<TokenId>(prompt.begin(), prompt.begin() + 32));
    EXPECT_EQ(plan.blocks[0].first_index, 0);
    EXPECT_THAT(plan.blocks[0].ids, ElementsAre(0, 1)) << "as the first one had them";
    EXPECT_EQ(plan.rows[0].position, 32);
    EXPECT_EQ(plan.rows[0].count, 9);
    SubmitEvent anothers = Submit(LongPrompt(), 1);
    anothers.request.tenant = "another";
    return Events(WorkerEvent{0, Answer(2, {{2, 41, 7, kNoRoute, {}}})}, anothers);
  });
  Then([this] {
    EXPECT_TRUE(LastPlan().add[0].history.empty()) << "tenants share nothing";
    return Events(WorkerEvent{0, Answer(3, {{3, 40, 7, kNoRoute, {}}})});
  });
  Run();
  EXPECT_EQ(clients_[0]->done->cached_tokens, 0);
  EXPECT_EQ(clients_[1]->done->cached_tokens, 32);
  EXPECT_EQ(clients_[2]->done->cached_tokens, 0);
}

TEST_F(EngineTest, WithoutAPrefixCacheAllIsComputed) {
  options_.prefix_cache = false;
  ThenFormed();
  ThenEvent(Submit(LongPrompt(), 1));
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 40, 7, kNoRoute, {}}})}); });
  ThenEvent(Submit(LongPrompt(), 1));
  Then([this] {
    EXPECT_TRUE(LastPlan().add[0].history.empty());
    return Events(WorkerEvent{0, Answer(2, {{2, 40, 7, kNoRoute, {}}})});
  });
  Run();
  EXPECT_EQ(clients_[1]->done->cached_tokens, 0);
}

TEST_F(EngineTest, TwoThatBeginAlikeComputeItOnce) {
  ThenFormed();
  Then([this] {
    const SubmitEvent first = Submit(LongPrompt(), 1), second = Submit(LongPrompt(), 1);
    return Events(first, second);
  });
  Then([this] {
    EXPECT_EQ(LastPlan().rows.size(), 1u) << "the second waits for the first";
    return Events(WorkerEvent{0, Answer(1, {{1, 40, 7, kNoRoute, {}}})});
  });
  Then([this] {
    EXPECT_EQ(LastPlan().rows[0].position, 32);
    return Events(WorkerEvent{0, Answer(2, {{2, 40, 7, kNoRoute, {}}})});
  });
  Run();
  EXPECT_EQ(clients_[1]->done->cached_tokens, 32);
}

TEST_F(EngineTest, WhatAFailedRowUsedIsNotFound) {
  ThenFormed();
  ThenEvent(Submit(LongPrompt(), 2));
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 40, 7, kNoRoute, {}}})}); });
  Then([this] {
    StepResult failed = Answer(2, {});
    failed.row_errors.push_back({1, "logits are not finite"});
    return Events(WorkerEvent{0, failed}, Submit(LongPrompt(), 1));
  });
  Then([this] {
    EXPECT_TRUE(LastPlan().add[0].history.empty());
    return Events(WorkerEvent{0, Answer(3, {{2, 40, 7, kNoRoute, {}}})});
  });
  Run();
  EXPECT_EQ(clients_[1]->done->cached_tokens, 0);
}

// What the second epoch of a rank finds of the first one's KV.
struct SecondEpoch {
  const char* name;
  uint64_t incarnation;
  Epoch kv_since;  // as the worker says of the second, which is epoch 2
  int32_t found;
};
class KvOfTwoEpochsTest : public EngineTest, public testing::WithParamInterface<SecondEpoch> {};

TEST_P(KvOfTwoEpochsTest, IsFoundIfItIsThatOfTheFirst) {
  ThenEvent(WorkerEvent{0, MakeHello()});
  ThenEvent(WorkerEvent{0, Formed{1, absl::OkStatus(), "", 1}});
  ThenEvent(Submit(LongPrompt(), 1));
  Then([this] { return Events(WorkerEvent{0, Answer(1, {{1, 40, 7, kNoRoute, {}}})}); });
  ThenEvent(WorkerDown{0, "its link broke"});
  Then([this] {
    Hello hello = MakeHello();
    hello.incarnation = GetParam().incarnation;
    return Events(WorkerEvent{0, hello});
  });
  ThenEvent(WorkerEvent{0, Formed{2, absl::OkStatus(), "", GetParam().kv_since}});
  ThenEvent(Submit(LongPrompt(), 1));
  Then([this] {
    EXPECT_EQ(static_cast<int32_t>(LastPlan().add[0].history.size()), GetParam().found);
    StepResult result = Answer(1, {{2, 40, 7, kNoRoute, {}}});
    result.incarnation = GetParam().incarnation;
    return Events(WorkerEvent{0, result});
  });
  Run();
  EXPECT_EQ(clients_[1]->done->cached_tokens, GetParam().found);
}

INSTANTIATE_TEST_SUITE_P(Workers, KvOfTwoEpochsTest,
                         testing::Values(SecondEpoch{"the_same", 5, 1, 32},
                                         SecondEpoch{"another_process", 6, 1, 0},
                                         SecondEpoch{"another_scheduler_between", 5, 2, 0},
                                         SecondEpoch{"a_worker_that_does_not_say", 5, 0, 0}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pregate::scheduler
