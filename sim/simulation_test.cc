#include "sim/simulation.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sim/comparison.h"
#include "sim/route_chain.h"
#include "sim/route_record.h"

namespace pregate::sim {
namespace {

Costs SmallCosts() {
  Costs c;
  c.machine = "made up";
  c.layers = 4;
  c.experts = 6;
  c.base_s = 1e-3;
  c.token_s = 2e-5;
  c.expert_read_s = 5e-4;
  c.key_s = 1e-7;
  c.unit_load_s = 5e-3;
  c.route_request_s = 5e-4;
  c.route_token_s = 1e-6;
  c.link_s = 1e-4;
  return c;
}

SimulationOptions Options(const std::string& batching, const std::string& eviction, int32_t slots) {
  SimulationOptions o;
  o.costs = SmallCosts();
  o.engine.batching = batching;
  o.engine.eviction = eviction;
  o.engine.step_tokens = 64;
  o.engine.queue_max = 10000;
  o.worker = {.expert_slots = slots,
              .kv_blocks = 400,
              .seq_slots = 16,
              .step_tokens = 64,
              .context_tokens = 4096};
  return o;
}

std::vector<TraceRequest> Trace(int64_t requests, absl::Duration gap) {
  std::vector<TraceRequest> trace;
  for (int64_t i = 0; i < requests; ++i) {
    const uint64_t draw = Mix(99, i);
    trace.push_back({i * gap, static_cast<int32_t>(1 + draw % 150),
                     static_cast<int32_t>(1 + draw / 1000 % 60)});
  }
  return trace;
}

Report Served(const SimulationOptions& options, const std::vector<TraceRequest>& trace) {
  const auto report = Simulate(options, trace);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.ok() ? *report : Report();
}

TEST(SimulationTest, TheSameSeedGivesTheSameBytes) {
  SimulationOptions o = Options("horizon", "plan", 3);
  const auto trace = Trace(60, absl::Milliseconds(40));
  const std::string first = ToJson(Served(o, trace)).dump();
  EXPECT_EQ(ToJson(Served(o, trace)).dump(), first);
  o.seed = 2;
  EXPECT_NE(ToJson(Served(o, trace)).dump(), first);
}

TEST(SimulationTest, EveryPolicyServesEveryTokenOfEveryRequest) {
  const auto trace = Trace(80, absl::Milliseconds(10));
  int64_t prompt = 0, generated = 0;
  for (const TraceRequest& r : trace) {
    prompt += r.prompt_tokens;
    generated += r.generated_tokens;
  }
  for (const std::string& batching : scheduler::PlannerNames()) {
    for (const std::string& eviction : scheduler::EvictionNames()) {
      for (const int32_t slots : {1, 3, 6}) {
        const Report r = Served(Options(batching, eviction, slots), trace);
        EXPECT_EQ(r.finished, 80);
        EXPECT_EQ(r.refused, 0);
        EXPECT_EQ(r.prompt_tokens, prompt);
        EXPECT_EQ(r.generated_tokens, generated);
        EXPECT_EQ(r.ttft.count, 80);
        EXPECT_EQ(r.itl.count, generated - 80);
        EXPECT_EQ(r.cache.references, r.steps.experts * 4);
        EXPECT_EQ(r.cache.hits + r.cache.late + r.cache.misses, r.cache.references);
        EXPECT_GE(r.window_loads, r.window_optimal_loads - r.window_references / 100);
        if (slots == 6) {
          EXPECT_EQ(r.cache.loads, 0);
        } else {
          EXPECT_GT(r.cache.stall, absl::ZeroDuration());
        }
      }
    }
  }
}

TEST(SimulationTest, WhereAllExpertsFitHorizonAndByExpertAreFcfs) {
  const auto trace = Trace(100, absl::Milliseconds(15));
  const Report a = Served(Options("fcfs", "lru", 6), trace);
  for (const char* const policy : {"by_expert", "horizon"}) {
    EXPECT_EQ(ToJson(a).dump(), ToJson(Served(Options(policy, "plan", 6), trace)).dump());
  }
}

// What it is for: less latency than the field's two ways and the paper's, and fewer loads.
TEST(SimulationTest, HorizonIsFasterThanTheOthersAndLoadsLess) {
  const auto trace = Trace(150, absl::Milliseconds(150));
  const Report ours = Served(Options("horizon", "plan", 3), trace);
  for (const char* const policy : {"fcfs", "prefill_first", "longest_queue"}) {
    const Report theirs = Served(Options(policy, "next_use", 3), trace);
    EXPECT_LT(ours.normalized.mean, 0.75 * theirs.normalized.mean) << policy;
    EXPECT_LT(ours.normalized.p95, 0.75 * theirs.normalized.p95) << policy;
    EXPECT_LT(ours.cache.loads, theirs.cache.loads) << policy;
  }
}

// Where many wait, the order leaves eviction little to guess.
TEST(SimulationTest, UnderOverloadLoadsAreNearTheOptimum) {
  for (const int32_t slots : {2, 3, 4}) {
    SimulationOptions o = Options("horizon", "plan", slots);
    o.costs.layers = 32;
    o.costs.unit_load_s = 1e-3;
    o.worker.seq_slots = 128;
    o.worker.kv_blocks = 4000;
    o.engine.step_tokens = o.worker.step_tokens = 256;
    EXPECT_LT(LoadsOverOptimum(Served(o, Trace(300, absl::ZeroDuration()))), 1.10) << slots;
  }
}

TEST(SimulationTest, RecordedRoutesAreReplayed) {
  SimulationOptions o = Options("horizon", "plan", 2);
  RouteRecord record{6, "made up", {std::vector<ExpertId>(400, 2), std::vector<ExpertId>(600, 5)}};
  o.routes = std::make_shared<const RouteRecord>(record);
  const auto trace = Trace(40, absl::Milliseconds(40));
  const Report r = Served(o, trace);
  EXPECT_EQ(r.finished, 40);
  EXPECT_EQ(r.cache.loads, 2 * 4) << "two experts are ever named";
  for (std::vector<ExpertId>& text : record.texts) text[text.size() / 2] = 1;
  o.routes = std::make_shared<const RouteRecord>(record);
  EXPECT_GT(Served(o, trace).cache.loads, 3 * 4);
}

TEST(SimulationTest, WhereTheyDoNotFitByExpertLoadsLessAndIsFaster) {
  const auto trace = Trace(150, absl::Milliseconds(150));
  const Report a = Served(Options("fcfs", "next_use", 3), trace);
  const Report b = Served(Options("by_expert", "next_use", 3), trace);
  EXPECT_LT(Served(Options("fcfs", "next_use", 6), trace).normalized.mean, b.normalized.mean);
  EXPECT_LT(b.steps.experts * a.steps.steps, a.steps.experts * b.steps.steps);
  EXPECT_GT(b.cache.hits * a.cache.references, a.cache.hits * b.cache.references);
  EXPECT_LT(b.normalized.mean, 0.9 * a.normalized.mean);
}

TEST(SimulationTest, ALoneRequestCostsWhatTheFormulaSays) {
  SimulationOptions o = Options("fcfs", "lru", 6);
  o.locality = 1;
  const Report r = Served(o, {{absl::ZeroDuration(), 32, 2}});
  const Costs& c = o.costs;
  const double route = c.route_request_s + 32 * c.route_token_s + 2 * c.link_s;
  const double prefill = c.base_s + 32 * c.token_s + c.expert_read_s + 32 * c.key_s + 2 * c.link_s;
  EXPECT_NEAR(r.ttft.mean, route + prefill, 1e-6);
  EXPECT_NEAR(r.itl.mean, c.base_s + c.token_s + c.expert_read_s + 33 * c.key_s, 2.1 * c.link_s);
}

TEST(SimulationTest, FullQueuesRefuse) {
  SimulationOptions o = Options("fcfs", "lru", 6);
  o.engine.queue_max = 2;
  const Report r = Served(o, Trace(200, absl::ZeroDuration()));
  EXPECT_GT(r.refused, 0);
  EXPECT_EQ(r.finished + r.refused, 200);
}

TEST(RouteChainTest, KeepsTheExpertAsOftenAsItShould) {
  for (const double locality : {0.0, 0.71, 1.0}) {
    const RouteChain chain{5, locality, 7};
    ExpertId route = kNoRoute;
    std::vector<int> count(7);
    int kept = 0;
    for (int i = 0; i < 100000; ++i) {
      const ExpertId next = chain.Next(route, DrawToken(3, i));
      kept += next == route;
      route = next;
      ++count[route];
    }
    EXPECT_NEAR(kept / 1e5, locality, 0.01);
    if (locality < 1) {
      for (int n : count) EXPECT_NEAR(n / 1e5, 1.0 / 7, 0.02);
    }
  }
}

}  // namespace
}  // namespace pregate::sim
