// Times the planning of a step where experts do not all fit: 256 sequences run, 10,000 are queued.
// Timed are residency's part, the view, the proposal and the wanted lists; the commit (which copies
// tokens and routes into the plan) and made-up answers come between. `allocations` counts those of a
// step's planning, `per_token` the same by the tokens that were planned.
// usage: planner_bench [Google Benchmark's flags]
#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "common/base/status.h"
#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/policies.h"
#include "scheduler_service/core/random_source.h"
#include "scheduler_service/core/residency.h"

namespace {
std::atomic<int64_t> num_allocations{0};
}  // namespace

// Not inlined: the compiler would take malloc and free for a pair that does not match.
[[gnu::noinline]] void* operator new(size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace pregate::scheduler {
namespace {

constexpr int32_t kRunning = 256, kQueued = 10'000, kLayers = 32, kStepTokens = 1024;

class World {
 public:
  World(const std::string& policy, int32_t num_experts)
      : num_experts_(num_experts), random_(1), planner_(MakePlanner(policy, {})) {
    Hello hello;
    hello.incarnation = 1;
    hello.facts.num_layers = kLayers;
    hello.facts.num_experts = num_experts;
    hello.facts.unit_slots = num_experts * 3 / 7 * kLayers;
    for (ExpertId e = 0; e < num_experts * 3 / 7; ++e) {
      for (int32_t layer = 0; layer < kLayers; ++layer) hello.resident_units.push_back({layer, e});
    }
    resident_ = hello.resident_units;
    residency_.OnHello(0, hello);
    residency_.BeginEpoch({0}, {std::vector<std::vector<int32_t>>(num_experts, {0})});
    habits_.Reset(num_experts);
    batch_.Reset({{0, 1 << 20}}, kRunning);
    for (int32_t i = 0; i < kRunning + kQueued; ++i) Enqueue(i < kRunning ? 8 : 600);
    while (batch_.num_running() < kRunning) {
      PlanWith(FcfsPlanner());
      Answer();
    }
    for (const auto& s : sequences_) {
      while (s->state == SequenceState::kRunning && s->planned + 1 < s->num_tokens()) {
        PlanWith(FcfsPlanner());
        Answer();
      }
    }
  }

  void Plan() { PlanWith(*planner_); }
  // Of the last plan.
  double seconds() const { return seconds_; }
  int64_t allocations() const { return allocations_; }
  // Every sequence that sampled gets a token, and stays as long as it was.
  void Answer() {
    for (const auto& s : sequences_) {
      if (s->state != SequenceState::kRunning) continue;
      while (s->samples_in_flight > 0) {
        batch_.OnSamples(s.get(), 1);
        s->Append(7, NextRoute(s->routes.back()));
      }
    }
  }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  ExpertId NextRoute(ExpertId last) {
    return random_.Next() % 100 < 71 ? last : static_cast<ExpertId>(random_.Next() % num_experts_);
  }
  void Enqueue(int32_t prompt_len) {
    auto s = std::make_unique<Sequence>();
    s->id = s->turn = static_cast<int64_t>(sequences_.size()) + 1;
    s->client = s->id % 64;
    s->prompt_len = prompt_len;
    s->max_len = prompt_len + 1'000'000;
    ExpertId route = 0;
    for (int32_t i = 0; i < prompt_len; ++i) s->Append(7, route = NextRoute(route));
    batch_.Enqueue(s.get());
    sequences_.push_back(std::move(s));
  }
  void PlanWith(const Planner& planner) {
    PlannerView base;
    base.step_id = ++step_;
    base.step_tokens = kStepTokens;
    base.preemptions_max = 4;
    base.habits = &habits_;
    const int64_t allocations = num_allocations.load();
    const auto begin = std::chrono::steady_clock::now();
    residency_.Fill(&base);
    const PlannerView view = batch_.View(base);
    Proposal proposal = planner.Propose(view);
    proposal.wanted = residency_.Want(view, proposal);
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    allocations_ = num_allocations.load() - allocations;
    for (const Wanted& wanted : proposal.wanted) Load(wanted);
    num_tokens_ += batch_.Commit(proposal, 1, step_).num_tokens;
  }
  // All that is wanted arrives at once, and the rest is gone.
  void Load(const Wanted& wanted) {
    std::vector<UnitEvent> events;
    const auto add = [&](const UnitId& unit, UnitState state) {
      events.push_back({++num_events_, unit, state});
    };
    for (const UnitId& unit : resident_) add(unit, UnitState::kAbsent);
    resident_ = wanted.units;
    for (const UnitId& unit : resident_) add(unit, UnitState::kResident);
    PREGATE_CHECK(residency_.OnEvents(0, events).ok(), "unit events");
  }

  const int32_t num_experts_;
  SplitMix64 random_;
  const std::unique_ptr<const Planner> planner_;
  Residency residency_{Eviction::kPlan};
  RouteHabits habits_;
  Batch batch_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepId step_ = 0;
  std::vector<UnitId> resident_;
  uint64_t num_events_ = 0;
  int64_t num_tokens_ = 0;
  double seconds_ = 0;
  int64_t allocations_ = 0;
};

void BM_Plan(benchmark::State& state, const std::string& policy) {
  World world(policy, static_cast<int32_t>(state.range(0)));
  const int64_t tokens = world.num_tokens();
  int64_t allocations = 0;
  for (auto _ : state) {
    world.Plan();
    state.SetIterationTime(world.seconds());
    allocations += world.allocations();
    world.Answer();
  }
  const auto steps = static_cast<double>(state.iterations());
  const auto planned = static_cast<double>(world.num_tokens() - tokens);
  state.counters["tokens"] = planned / steps;
  state.counters["allocations"] = static_cast<double>(allocations) / steps;
  state.counters["per_token"] = static_cast<double>(allocations) / planned;
}

BENCHMARK_CAPTURE(BM_Plan, horizon, "horizon")
    ->Arg(7)
    ->Arg(64)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Plan, by_expert, "by_expert")
    ->Arg(7)
    ->Arg(64)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Plan, fcfs, "fcfs")
    ->Arg(7)
    ->Arg(64)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace pregate::scheduler

BENCHMARK_MAIN();
