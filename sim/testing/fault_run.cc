#include "sim/testing/fault_run.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler_service/engine/scheduler_engine.h"
#include "sim/testing/sim_clients.h"
#include "sim/testing/sim_world.h"

namespace pregate::scheduler {
namespace {

struct Scenario {
  FakeModel model;
  int num_workers = 1;
  int num_faults = 0;
  absl::Duration faults_until;
  SimLoad load;
  FakeWorkerConfig worker;
  EngineOptions options;

  bool dense() const { return model.num_experts == 0; }
  bool service_routes() const {
    return options.decode_routing == DecodeRouting::kService && !dense();
  }
};

// Shapes vary with the seed: small KV memory, few slots, small budgets, several workers, dense
// models, experts that do not fit.
Scenario RandomScenario(uint64_t seed) {
  SplitMix64 random(seed * 7919);
  const auto below = [&](uint64_t bound) { return static_cast<int32_t>(random.Next() % bound); };
  Scenario s;
  s.model.num_experts = below(5) == 0 ? 0 : 5;
  s.model.repeating = below(3) == 0 ? 0 : 60 + below(40);
  const int32_t workers = below(8);
  s.num_workers = workers == 0 ? 3 : workers <= 2 ? 2 : 1;
  s.num_faults = below(13);
  s.faults_until = absl::Milliseconds(100 << below(5));

  s.worker.model = s.model;
  s.worker.kv_blocks = 7 + below(12);
  s.worker.seq_slots = 1 + below(8);
  s.worker.step_tokens = 4 + below(60);
  s.worker.context_tokens = 112;
  // Of 15 units in all; of two workers one holds 9, of three one holds 6.
  if (below(2) == 0 && !s.dense()) s.worker.unit_slots = 1 + below(5);
  s.worker.unit_load = absl::Milliseconds(below(8));
  s.worker.expert_load = absl::Milliseconds(below(4) * 20);

  s.options.run_ahead = below(3) != 0;
  s.options.drafts = below(4) == 0 ? Drafts::kOff : Drafts::kNgram;
  if (below(4) == 0) s.options.decode_routing = DecodeRouting::kService;
  s.options.queue_max = 3 + below(12);
  const std::vector<std::string> policies = scheduler::PlannerNames();
  s.options.batching = policies[below(policies.size())];
  s.options.planner = {
      .age_steps = below(8), .experts_max = below(4) == 0 ? 2 : 0, .chunk_tokens = 4};
  const std::vector<std::string> evictions = scheduler::EvictionNames();
  s.options.eviction = evictions[below(evictions.size())];
  // Also the size of the pieces that prompts are routed in.
  s.options.step_tokens = 2 + below(60);
  s.options.preemptions_max = below(4);

  s.worker.late_rows =
      s.options.run_ahead && (s.dense() || (!s.service_routes() && s.worker.unit_slots == 0));
  s.worker.routes_samples = s.options.decode_routing == DecodeRouting::kReplica;

  s.load.spread = absl::Milliseconds(50 << below(6));
  s.load.num_clients = 2 + below(12);
  s.load.percent_cancelled = below(20);
  s.load.percent_deadline = below(20);
  s.load.percent_resumed = below(30);
  s.load.percent_broken = below(40);
  s.options.prefix_cache = below(4) != 0;
  s.load.percent_begun_alike = below(3) * 45;
  return s;
}

std::string Describe(const Scenario& s) {
  return absl::StrCat(
      s.num_workers, s.num_workers == 1 ? " worker, " : " workers, ",
      s.dense() ? "dense" : "5 experts",
      s.worker.unit_slots > 0 ? absl::StrCat(" in ", s.worker.unit_slots, " of 15 units") : "",
      ", ", s.options.batching, s.options.run_ahead ? ", run-ahead" : "",
      s.options.drafts == Drafts::kNgram ? ", drafts" : "",
      s.options.prefix_cache ? ", prefix cache" : "",
      s.service_routes() ? ", routes of the service" : "", ", ", s.load.num_clients, " clients, ",
      s.worker.kv_blocks, " blocks, ", s.worker.seq_slots, " slots, ", s.num_faults, " faults");
}

absl::Duration ShortOrLong(SimWorld* world) {
  return world->random().Next() % 8 == 0
             ? absl::Seconds(20)
             : world->RandomDuration(absl::Milliseconds(1), absl::Milliseconds(400));
}

void Corrupt(SimWorld* world, int rank) {
  const uint64_t kind = world->random().Next() % 7;
  world->CorruptResult(rank, [kind](StepResult* r) {
    if (kind == 0) r->samples.push_back({9999, 3, 1, 0, {}});
    if (kind == 1) r->row_errors.push_back({9999, "no such sequence"});
    if (kind == 2) r->status = absl::InternalError("device lost");
    if (kind == 3) r->step_id += 7;
    if (r->samples.empty()) return;
    if (kind == 4) r->samples[0].token = 1 << 20;
    if (kind == 5) r->samples[0].position += 1;
    if (kind == 6) {
      const SeqId seq_id = r->samples[0].seq_id;
      std::erase_if(r->samples, [&](const Sample& sample) { return sample.seq_id == seq_id; });
      r->row_errors.push_back({seq_id, kFailedRow});
    }
  });
}

void InjectFault(SimWorld* world, int num_workers) {
  const int rank = static_cast<int>(world->random().Next() % num_workers);
  const absl::Duration delay = world->RandomDuration(absl::Milliseconds(5), absl::Seconds(1));
  switch (world->random().Next() % 12) {
    case 0:
      return world->KillWorker(rank, ShortOrLong(world));
    case 1:
      return world->BreakWorkerLink(rank, ShortOrLong(world));
    case 2:
      return world->FreezeWorker(rank, ShortOrLong(world));
    case 3:
      return world->SlowWorkerLink(rank, delay, ShortOrLong(world));
    case 4:
      return world->LosePlan(rank);
    case 5:
      return world->RepeatOldResult(rank);
    case 6:
      return Corrupt(world, rank);
    case 7:
      return world->KillRouter(ShortOrLong(world));
    case 8:
      return world->BreakRouterLink(ShortOrLong(world));
    case 9:
      return world->SlowRouterLink(delay, ShortOrLong(world));
    case 10:
      return world->ExpireRouterSessions();
    case 11:
      return world->LoseRoutes();
  }
}

// Counts, and holds the engine to its budgets.
class Watcher final : public SchedulerObserver {
 public:
  explicit Watcher(const Scenario& s)
      : step_tokens_max_(std::min(s.options.step_tokens, s.worker.step_tokens)),
        running_max_(std::min(s.worker.seq_slots, step_tokens_max_)),
        queue_max_(s.options.queue_max) {}

  void OnFormed(Epoch epoch, const WorkerFacts&) override { last_epoch = epoch; }
  void OnRecovery(const std::string&) override { ++recoveries; }
  void OnStep(const StepReport& report) override {
    Expect(report.num_tokens <= step_tokens_max_, "tokens of a step", report.num_tokens);
  }
  void OnGauges(const EngineGauges& gauges) override {
    Expect(gauges.requests_running <= running_max_, "running", gauges.requests_running);
    // What waits is admitted only while the queue has room; preemption adds what ran.
    const int32_t all = gauges.requests_running + gauges.requests_waiting;
    Expect(all <= running_max_ + queue_max_, "running and waiting", all);
    Expect(gauges.kv_blocks_used <= gauges.kv_blocks, "KV blocks", gauges.kv_blocks_used);
    Expect(gauges.kv_blocks_cached <= gauges.kv_blocks, "cached blocks", gauges.kv_blocks_cached);
  }
  void OnLog(LogLevel, absl::string_view message, Log::Fields) override {
    if (absl::StrContains(message, "unit event")) problems.emplace_back(message);
  }

  std::vector<std::string> problems;
  Epoch last_epoch = 0;
  int recoveries = 0;

 private:
  void Expect(bool condition, const char* what, int64_t value) {
    if (!condition) problems.push_back(absl::StrCat("over budget: ", what, ", ", value));
  }

  const int32_t step_tokens_max_, running_max_, queue_max_;
};

// A scenario, run once.
class Cell {
 public:
  Cell(uint64_t seed, const FaultRunOptions& run)
      : scenario_(RandomScenario(seed)),
        world_(seed, scenario_.model, Workers(scenario_, run.wrong_tokens)),
        clients_(&world_, scenario_.model, scenario_.load),
        watcher_(scenario_),
        random_(seed),
        engine_(scenario_.options, Parts()) {
    if (run.trace) world_.Trace();
    for (int rank = 0; rank < scenario_.num_workers; ++rank) {
      world_.After(world_.RandomDuration(absl::ZeroDuration(), absl::Milliseconds(30)),
                   [=, this] { world_.StartWorker(rank); });
    }
    world_.After(world_.RandomDuration(absl::ZeroDuration(), absl::Milliseconds(50)),
                 [this] { world_.StartRouter(); });
    for (int i = 0; i < scenario_.num_faults; ++i) {
      world_.After(world_.RandomDuration(absl::Milliseconds(60), scenario_.faults_until),
                   [this] { InjectFault(&world_, scenario_.num_workers); });
    }
    clients_.Start();
    // A hung run ends here, with clients that were never served.
    world_.After(absl::Minutes(30), [this] { world_.Deliver(DrainEvent{}); });
  }

  FaultRun Run() {
    engine_.Run();
    world_.RunOut(world_.clock()->Now() + absl::Seconds(10));
    FaultRun run;
    run.scenario = Describe(scenario_);
    run.faults = scenario_.num_faults;
    run.recoveries = watcher_.recoveries;
    run.plans = world_.num_plans();
    run.tokens = clients_.num_reference_tokens();
    run.trace = world_.log();
    run.problems = watcher_.problems;
    for (const std::string& violation : world_.Violations()) run.problems.push_back(violation);
    for (size_t i = 0; i < clients_.clients().size(); ++i) CheckClient(i, &run);
    CheckLeaks(&run);
    // Without faults every plan advances somebody; a fault may cost each sequence its whole prefix
    // again.
    const int64_t plans_max = (run.tokens + 100) * scenario_.num_workers *
                              (2 + run.recoveries + run.preemptions + run.resumes);
    if (run.plans > plans_max) run.problems.push_back(absl::StrCat(run.plans, " plans"));
    return run;
  }

 private:
  static std::vector<FakeWorkerConfig> Workers(const Scenario& scenario, bool wrong_tokens) {
    std::vector<FakeWorkerConfig> workers(scenario.num_workers, scenario.worker);
    for (int rank = 0; rank < scenario.num_workers; ++rank) {
      workers[rank].rank = rank;
      workers[rank].model.weights += wrong_tokens ? 1 : 0;
    }
    return workers;
  }
  EngineParts Parts() {
    EngineParts parts;
    parts.clock = world_.clock();
    parts.inbox = &world_;
    parts.router = world_.router_link();
    for (int rank = 0; rank < scenario_.num_workers; ++rank)
      parts.workers.push_back(world_.worker_link(rank));
    parts.tokenizer = &clients_.tokenizer();
    parts.random = &random_;
    parts.observer = &watcher_;
    return parts;
  }

  void CheckClient(size_t index, FaultRun* run) const {
    const SimClient& client = *clients_.clients()[index];
    const auto add = [&](const std::string& what) {
      run->problems.push_back(absl::StrCat("client ", index, ": ", what));
    };
    const std::string wrong = clients_.Check(client, scenario_.service_routes());
    if (!wrong.empty()) add(wrong);
    run->refusals += client.refusals;
    run->resumes += client.resumes;
    if (!client.done) return;
    run->preemptions += client.done->preemptions;
    if (client.done->preemptions > scenario_.options.preemptions_max) add("preempted too often");
    if (client.done->reason == FinishReason::kCancelled ||
        client.done->reason == FinishReason::kDeadline) {
      ++run->cancelled;
      return;
    }
    if (!client.done->status.ok()) {
      ++run->failed;
      return;
    }
    const absl::Duration took = client.done_at - std::max(client.asked, world_.faults_over());
    run->served_last = std::max(run->served_last, took);
    if (took > kServedMax) add(absl::StrCat("served after ", absl::FormatDuration(took)));
  }

  void CheckLeaks(FaultRun* run) {
    const auto expect_none = [&](int64_t count, const std::string& what) {
      if (count != 0) run->problems.push_back(absl::StrCat("left over: ", count, " ", what));
    };
    expect_none(engine_.batch().num_blocks_used(), "blocks of the scheduler");
    expect_none(engine_.batch().num_running(), "running sequences");
    expect_none(engine_.batch().num_waiting(), "waiting sequences");
    expect_none(clients_.num_open_streams(), "streams without an end");
    for (int rank = 0; rank < scenario_.num_workers; ++rank) {
      const FakeWorker& worker = world_.worker(rank);
      // One that is left out keeps its table until it is asked again.
      if (worker.epoch() == watcher_.last_epoch)
        expect_none(worker.num_open(), absl::StrCat("slots of worker ", rank));
      run->right_drafts += worker.right_drafts();
      run->found_tokens += worker.found_tokens();
      run->unit_loads += worker.unit_loads();
    }
    // A router that was cut off learns of no close; its sessions expire.
    if (scenario_.num_faults == 0) expect_none(world_.router().num_sessions(), "router sessions");
  }

  const Scenario scenario_;
  SimWorld world_;
  SimClients clients_;
  Watcher watcher_;
  SplitMix64 random_;
  SchedulerEngine engine_;
};

}  // namespace

void FaultRun::Add(const FaultRun& other) {
  faults += other.faults;
  recoveries += other.recoveries;
  preemptions += other.preemptions;
  refusals += other.refusals;
  resumes += other.resumes;
  cancelled += other.cancelled;
  failed += other.failed;
  plans += other.plans;
  tokens += other.tokens;
  right_drafts += other.right_drafts;
  found_tokens += other.found_tokens;
  unit_loads += other.unit_loads;
  served_last = std::max(served_last, other.served_last);
}

FaultRun RunFaults(uint64_t seed, const FaultRunOptions& options) {
  return Cell(seed, options).Run();
}

}  // namespace pregate::scheduler
