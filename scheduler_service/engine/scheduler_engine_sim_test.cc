// The production engine in virtual time, against workers that check every plan, under random load
// and random faults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler_service/engine/scheduler_engine.h"
#include "sim/testing/sim_clients.h"
#include "sim/testing/sim_world.h"

namespace pregate::scheduler {
namespace {

struct Scenario {
  uint64_t seed = 1;
  bool run_ahead = true;
  bool service = false;
  int num_experts = 5;
  int num_workers = 1;
  int num_faults = 0;
  bool drafts = true;
  int32_t repeating = 0;  // percent
  SimLoad load;
  FakeWorkerConfig worker;
  EngineOptions options;
};

struct Outcome {
  std::vector<std::string> problems;
  std::string log;
  int recoveries = 0;
  int preemptions = 0;
  int refusals = 0;
  int64_t plans = 0;
  int64_t tokens = 0;
  int64_t right_drafts = 0;
};

class CountingObserver final : public SchedulerObserver {
 public:
  void OnRecovery(const std::string& reason) override { reasons.push_back(reason); }
  std::vector<std::string> reasons;
};

absl::Duration ShortOrLong(SimWorld* world) {
  return world->random().Next() % 8 == 0
             ? absl::Seconds(20)
             : world->RandomDuration(absl::Milliseconds(1), absl::Milliseconds(400));
}

void Corrupt(SimWorld* world, int rank) {
  const uint64_t kind = world->random().Next() % 6;
  world->CorruptResult(rank, [kind](StepResult* r) {
    if (kind == 0) r->samples.push_back({9999, 3, 1, 0, {}});
    if (kind == 1) r->row_errors.push_back({9999, "no such sequence"});
    if (kind == 2) r->status = absl::InternalError("device lost");
    if (kind == 3) r->step_id += 7;
    if (r->samples.empty()) return;
    if (kind == 4) r->samples[0].token = 1 << 20;
    if (kind == 5) r->samples[0].position += 1;
  });
}

void InjectFault(SimWorld* world, const Scenario& scenario) {
  const int rank = static_cast<int>(world->random().Next() % scenario.num_workers);
  switch (world->random().Next() % 9) {
    case 0:
      return world->KillWorker(rank, ShortOrLong(world));
    case 1:
      return world->BreakWorkerLink(rank, ShortOrLong(world));
    case 2:
      return world->FreezeWorker(rank, ShortOrLong(world));
    case 3:
      return world->LosePlan(rank);
    case 4:
      return world->RepeatOldResult(rank);
    case 5:
      return Corrupt(world, rank);
    case 6:
      return world->KillRouter(ShortOrLong(world));
    case 7:
      return world->ExpireRouterSessions();
    case 8:
      return world->LoseRoutes();
  }
}

Outcome Simulate(const Scenario& scenario) {
  FakeModel model;
  model.num_experts = scenario.num_experts;
  model.repeating = scenario.repeating;
  std::vector<FakeWorkerConfig> configs;
  for (int rank = 0; rank < scenario.num_workers; ++rank) {
    configs.push_back(scenario.worker);
    configs.back().rank = rank;
    configs.back().model = model;
    const bool all_fit = scenario.worker.unit_slots == 0;
    configs.back().late_rows =
        scenario.run_ahead && !(scenario.num_experts > 0 && (scenario.service || !all_fit));
    configs.back().routes_samples = !scenario.service;
  }
  SimWorld world(scenario.seed, model, configs);
  SimClients clients(&world, model, scenario.load);
  CountingObserver observer;
  EngineOptions options = scenario.options;
  options.run_ahead = scenario.run_ahead;
  options.drafts = scenario.drafts ? Drafts::kNgram : Drafts::kOff;
  options.decode_routing = scenario.service ? DecodeRouting::kService : DecodeRouting::kReplica;
  SplitMix64 random(scenario.seed);
  EngineParts parts;
  parts.clock = world.clock();
  parts.inbox = &world;
  parts.router = world.router_link();
  for (int rank = 0; rank < scenario.num_workers; ++rank)
    parts.workers.push_back(world.worker_link(rank));
  parts.tokenizer = &clients.tokenizer();
  parts.random = &random;
  parts.observer = &observer;
  SchedulerEngine engine(options, parts);

  for (int rank = 0; rank < scenario.num_workers; ++rank) {
    world.After(world.RandomDuration(absl::ZeroDuration(), absl::Milliseconds(30)),
                [&world, rank] { world.StartWorker(rank); });
  }
  world.After(world.RandomDuration(absl::ZeroDuration(), absl::Milliseconds(50)),
              [&world] { world.StartRouter(); });
  const absl::Duration faults_until = absl::Milliseconds(100 << (scenario.seed % 5));
  for (int i = 0; i < scenario.num_faults; ++i) {
    world.After(world.RandomDuration(absl::Milliseconds(60), faults_until),
                [&world, &scenario] { InjectFault(&world, scenario); });
  }
  clients.Start();
  // A hung run ends here, with clients that were never served.
  world.After(absl::Minutes(30), [&world] { world.Deliver(DrainEvent{}); });
  engine.Run();
  world.RunOut(world.clock()->Now() + absl::Seconds(10));

  Outcome outcome;
  for (const auto& client : clients.clients()) {
    const std::string problem =
        clients.Check(*client, scenario.service && scenario.num_experts > 0);
    if (!problem.empty()) outcome.problems.push_back(problem);
    if (!client->done) continue;
    outcome.preemptions += client->done->preemptions;
    outcome.refusals += client->refusals;
    if (client->done->preemptions > options.preemptions_max)
      outcome.problems.push_back("preempted too often");
  }
  for (const std::string& violation : world.Violations()) outcome.problems.push_back(violation);
  if (engine.batch().num_blocks_used() != 0) outcome.problems.push_back("blocks leaked");
  if (engine.batch().num_running() + engine.batch().num_waiting() != 0)
    outcome.problems.push_back("sequences leaked");
  for (int rank = 0; rank < scenario.num_workers; ++rank) {
    if (world.worker(rank).num_open() != 0) outcome.problems.push_back("worker slots leaked");
    outcome.right_drafts += world.worker(rank).right_drafts();
  }
  if (scenario.num_faults == 0 && world.router().num_sessions() != 0)
    outcome.problems.push_back("sessions leaked");
  outcome.log = world.log();
  outcome.recoveries = static_cast<int>(observer.reasons.size());
  outcome.plans = world.num_plans();
  outcome.tokens = clients.num_reference_tokens();
  // Without faults every plan advances somebody; a fault may cost each sequence its whole prefix
  // again.
  const int64_t plans_max = (outcome.tokens + 100) * scenario.num_workers *
                            (2 + outcome.recoveries + outcome.preemptions);
  if (outcome.plans > plans_max) outcome.problems.push_back(absl::StrCat(outcome.plans, " plans"));
  return outcome;
}

// Shapes vary with the seed: small KV memory, few slots, small budgets, several workers, dense
// models.
Scenario RandomScenario(uint64_t seed) {
  SplitMix64 random(seed * 7919);
  Scenario s;
  s.seed = seed;
  s.service = random.Next() % 4 == 0;
  s.num_experts = random.Next() % 5 == 0 ? 0 : 5;
  s.num_workers = random.Next() % 4 == 0 ? 2 : 1;
  s.worker.kv_blocks = 7 + static_cast<int32_t>(random.Next() % 12);
  s.worker.seq_slots = 1 + static_cast<int32_t>(random.Next() % 8);
  s.worker.step_tokens = 4 + static_cast<int32_t>(random.Next() % 60);
  s.worker.context_tokens = 112;
  s.options.queue_max = 3 + static_cast<int32_t>(random.Next() % 12);
  const uint64_t policy = random.Next();
  s.options.batching = policy % 2 == 0 ? "fcfs" : "by_expert";
  s.options.by_expert = {.age_steps = static_cast<int32_t>(policy / 2 % 8),
                         .experts_max = policy / 16 % 4 == 0 ? 2 : 0,
                         .chunk_tokens = 4};
  s.options.eviction = policy / 64 % 2 == 0 ? "lru" : "next_use";
  // Of 15 units in all; two workers hold 9 and 6 of them.
  if (policy / 128 % 2 == 0) s.worker.unit_slots = 1 + static_cast<int32_t>(policy / 256 % 5);
  // Also the size of the pieces that prompts are routed in.
  s.options.step_tokens = 2 + static_cast<int32_t>(policy / 4096 % 60);
  s.options.preemptions_max = static_cast<int32_t>(random.Next() % 4);
  s.drafts = seed % 4 != 0;
  s.repeating = seed % 3 == 0 ? 0 : 60 + static_cast<int32_t>(seed % 40);
  s.load.spread = absl::Milliseconds(50 << (random.Next() % 6));
  s.load.num_clients = 4 + static_cast<int>(random.Next() % 14);
  s.load.percent_cancelled = static_cast<int>(random.Next() % 20);
  s.load.percent_deadline = static_cast<int>(random.Next() % 20);
  s.load.percent_resumed = static_cast<int>(random.Next() % 30);
  return s;
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}
// PREGATE_SEED and PREGATE_SEEDS: the first seed, and how many.
uint64_t FirstSeed() { return FromEnvironment("PREGATE_SEED", 1); }
uint64_t NumSeeds() { return FromEnvironment("PREGATE_SEEDS", 250); }

TEST(SchedulerEngineSimTest, WithoutFaultsEveryClientGetsTheReferenceText) {
  Outcome total;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + NumSeeds(); ++seed) {
    Scenario scenario = RandomScenario(seed);
    for (const bool run_ahead : {false, true}) {
      scenario.run_ahead = run_ahead;
      const Outcome outcome = Simulate(scenario);
      ASSERT_THAT(outcome.problems, testing::IsEmpty())
          << "seed " << seed << " run_ahead " << run_ahead;
      ASSERT_LE(outcome.recoveries, scenario.num_workers - 1) << "seed " << seed;
      total.preemptions += outcome.preemptions;
      total.refusals += outcome.refusals;
      total.right_drafts += outcome.right_drafts;
      total.plans += outcome.plans;
      total.tokens += outcome.tokens;
    }
  }
  std::printf(
      "seeds %lu..%lu: %ld plans for at most %ld tokens, %ld of them right drafts, %d preemptions, "
      "%d refusals\n",
      FirstSeed(), FirstSeed() + NumSeeds() - 1, total.plans, total.tokens, total.right_drafts,
      total.preemptions, total.refusals);
  EXPECT_GT(total.right_drafts, 0);
  EXPECT_GT(total.preemptions, 0);
  EXPECT_GT(total.refusals, 0);
}

TEST(SchedulerEngineSimTest, FaultsCostTimeAndNothingElse) {
  Outcome total;
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + NumSeeds(); ++seed) {
    Scenario scenario = RandomScenario(seed);
    SplitMix64 random(seed * 104729);
    scenario.run_ahead = random.Next() % 3 != 0;
    scenario.num_faults = 1 + static_cast<int>(random.Next() % 12);
    const Outcome outcome = Simulate(scenario);
    if (std::getenv("PREGATE_SIM_LOG")) std::puts(outcome.log.c_str());
    ASSERT_THAT(outcome.problems, testing::IsEmpty()) << "seed " << seed;
    total.recoveries += outcome.recoveries;
    total.preemptions += outcome.preemptions;
    total.right_drafts += outcome.right_drafts;
  }
  std::printf("seeds %lu..%lu: %d recoveries, %d preemptions, %ld right drafts\n", FirstSeed(),
              FirstSeed() + NumSeeds() - 1, total.recoveries, total.preemptions,
              total.right_drafts);
  EXPECT_GT(total.recoveries, 0);
}

TEST(SchedulerEngineSimTest, TheSameSeedGivesTheSameRun) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + 20; ++seed) {
    Scenario scenario = RandomScenario(seed);
    scenario.num_faults = 6;
    const std::string first = Simulate(scenario).log;
    ASSERT_EQ(first, Simulate(scenario).log) << "seed " << seed;
    scenario.seed += 1000;
    ASSERT_NE(first, Simulate(scenario).log) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pregate::scheduler
