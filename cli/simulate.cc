// `pregate simulate`: a trace of requests through the production scheduler, in virtual time.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/default_costs.h"
#include "cli/progress.h"
#include "cli/read_file.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "sim/comparison.h"
#include "sim/simulation.h"

namespace pregate::cli {
namespace {

using Json = nlohmann::json;

struct SimulateFlags {
  std::string trace, costs, routes, out, plot;
  std::vector<std::string> compare_slots;
  double locality = 0.71, rate_scale = 1;
  std::string batching = "horizon", eviction = "plan", run_ahead = "on";
  int32_t slots = 0, age_steps = -1, experts_max = 0, chunk_tokens = 32;
  int32_t step_tokens = 256, running_max = 256, kv_blocks = 1 << 16, context_tokens = 1 << 15;
  int32_t queue_max = 1 << 16, requests = 0;
  std::optional<uint64_t> seed = 1;
  bool compare = false, as_json = false;
};

void DeclareSimulateFlags(OptionSet& set, SimulateFlags* o) {
  set.String("trace", &o->trace,
             "CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens")
      .Required();
  set.String(
      "costs", &o->costs,
      "cost file of a machine, as in bench/costs; empty: SmolLM2's MoE on the AMD EPYC of the "
      "benchmarks");
  set.Double("locality", &o->locality, 0, 1, "",
             "probability that a token keeps the expert of the one before");
  set.String("routes", &o->routes,
             "replay routes of `pregate routes record` instead; the experts are those of the file");
  set.Choice("policy", &o->batching, scheduler::PlannerNames(), "who shares a step");
  set.Choice("cache", &o->eviction, scheduler::EvictionNames(),
             "which experts leave, and come early");
  set.Int("slots", &o->slots, 0, 1024, "experts",
          "that fit at once, times the layers of units; 0: all of them");
  set.Int("batch-age-steps", &o->age_steps, -1, 10000, "steps",
          "how often a sequence that could run may be passed over in a row; -1: 8 with by_expert, "
          "else 64");
  set.Int("batch-experts-max", &o->experts_max, 0, 1024, "experts",
          "by_expert: that a step takes by choice; 0: as many as fit at once");
  set.Int("batch-chunk-tokens", &o->chunk_tokens, 1, 65536, "tokens",
          "by_expert: least prefill chunk that a change of route may cut");
  set.Choice("run-ahead", &o->run_ahead, {"on", "off"},
             "send a plan before the result of the one before it");
  set.Int("step-tokens", &o->step_tokens, 1, 65536, "tokens", "budget of a step");
  set.Int("running-max", &o->running_max, 1, 65536, "sequences", "in the batch");
  set.Int("kv-blocks", &o->kv_blocks, 1, 1 << 26, "blocks", "of 16 tokens")
      .Environment("PREGATE_SIMULATE_KV_BLOCKS");  // the same
  set.Int("context-tokens", &o->context_tokens, 2, 1 << 20, "tokens", "longest sequence")
      .Environment("PREGATE_SIMULATE_CONTEXT_TOKENS");  // 0 means the model's to others
  set.Int("queue-max", &o->queue_max, 1, 1 << 24, "requests", "that may wait; others are refused");
  set.Int("requests", &o->requests, 0, sim::kTraceRequestsMax, "requests",
          "of the trace, the first ones; 0: all");
  set.Double("rate-scale", &o->rate_scale, 1e-6, 1e6, "times", "how much faster requests arrive");
  set.OptionalUint64("seed", &o->seed, "of prompts, routes and samples; same seed, same bytes");
  set.String("out", &o->out, "write the JSON report here too");
  set.Switch("compare", &o->compare,
             "run every policy at several numbers of slots, and print a table (Markdown)");
  set.Strings("compare-slots", &o->compare_slots,
              "with --compare: the numbers of slots; empty: --slots, or 2 up to all");
  set.String("plot", &o->plot, "with --compare: write a picture (SVG) here");
  set.Switch("json", &o->as_json, "print one JSON object");
}

// Experts are those of the record then: each costs what the file says.
absl::Status UseRoutes(const std::string& path, sim::SimulationOptions* s) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile("routes", path));
  auto record = sim::ParseRoutes(text);
  if (!record.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", record.status().message()));
  }
  s->costs.experts = record->num_experts;
  s->routes = std::make_shared<const sim::RouteRecord>(*std::move(record));
  return absl::OkStatus();
}

absl::StatusOr<sim::SimulationOptions> ToSimulation(const SimulateFlags& o) {
  sim::SimulationOptions s;
  std::string costs = kDefaultCosts;
  if (!o.costs.empty()) {
    ASSIGN_OR_RETURN(costs, ReadTextFile("costs", o.costs));
  }
  auto parsed = sim::ParseCosts(costs);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(o.costs, ": ", parsed.status().message()));
  }
  s.costs = *parsed;
  if (!o.routes.empty()) RETURN_IF_ERROR(UseRoutes(o.routes, &s));
  s.locality = o.locality;
  s.rate_scale = o.rate_scale;
  s.seed = *o.seed;
  s.worker = {.expert_slots = o.slots == 0 ? s.costs.experts : std::min(o.slots, s.costs.experts),
              .kv_blocks = o.kv_blocks,
              .seq_slots = o.running_max,
              .step_tokens = o.step_tokens,
              .context_tokens = o.context_tokens};
  s.engine.batching = o.batching;
  s.engine.eviction = o.eviction;
  s.engine.planner = {
      .age_steps = o.age_steps, .experts_max = o.experts_max, .chunk_tokens = o.chunk_tokens};
  s.engine.run_ahead = o.run_ahead == "on";
  // Tokens of a trace are drawn at random: there is nothing to guess.
  s.engine.drafts = Drafts::kOff;
  s.engine.prefix_cache = false;  // a trace does not say which prompts begin alike
  s.engine.step_tokens = o.step_tokens;
  s.engine.running_max = o.running_max;
  s.engine.queue_max = o.queue_max;
  return s;
}

Json SimulationConfig(const SimulateFlags& o, const sim::SimulationOptions& s,
                      int64_t failed_requests) {
  return {{"trace", o.trace},
          {"failed_requests_left_out", failed_requests},
          {"costs", o.costs.empty() ? "built in" : o.costs},
          {"machine", s.costs.machine},
          {"cost_source", s.costs.source},
          {"layers", s.costs.layers},
          {"experts", s.costs.experts},
          {"locality", o.locality},
          {"routes", o.routes},
          {"policy", o.batching},
          {"cache", o.eviction},
          {"slots", s.worker.expert_slots},
          {"batch_age_steps", o.age_steps},
          {"batch_experts_max", o.experts_max},
          {"batch_chunk_tokens", o.chunk_tokens},
          {"run_ahead", o.run_ahead},
          {"step_tokens", o.step_tokens},
          {"running_max", o.running_max},
          {"kv_blocks", o.kv_blocks},
          {"rate_scale", o.rate_scale},
          {"seed", *o.seed}};
}

void PrintSimulation(const Json& r) {
  std::printf("requests %s, refused %s, steps %s of %s tokens, %s experts a step\n",
              r["requests"].dump().c_str(), r["refused"].dump().c_str(), r["steps"].dump().c_str(),
              r["tokens_per_step"].dump().c_str(), r["unique_experts_per_step"].dump().c_str());
  std::printf("%-22s %12s %12s %12s %12s\n", "seconds", "mean", "p50", "p95", "p99");
  for (const char* name : {"ttft_s", "itl_s", "normalized_latency_s"}) {
    std::printf("%-22s", name);
    for (const char* p : {"mean", "p50", "p95", "p99"}) {
      std::printf(" %12.6g", r[name][p].get<double>());
    }
    std::printf("\n");
  }
  std::printf("hit ratio %s, loads %s, reuse %s, stall %s s, preemptions %s\n",
              r["hit_ratio"].dump().c_str(), r["loads"].dump().c_str(),
              r["reuse_ratio"].dump().c_str(), r["stall_s"].dump().c_str(),
              r["preemptions"].dump().c_str());
}

absl::StatusOr<std::vector<int32_t>> ComparedSlots(const SimulateFlags& o, int32_t experts) {
  std::vector<int32_t> slots;
  for (const std::string& text : o.compare_slots) {
    if (!absl::SimpleAtoi(text, &slots.emplace_back()) || slots.back() < 1 ||
        slots.back() > experts) {
      return absl::InvalidArgumentError(
          absl::StrCat("--compare-slots: '", text, "' must be an integer within 1..", experts));
    }
  }
  if (slots.empty() && o.slots > 0) slots.push_back(std::min(o.slots, experts));
  constexpr int32_t kGroupsMax = 6;
  const int32_t stride = (experts + kGroupsMax - 1) / kGroupsMax;
  for (int32_t n = 2; slots.empty() || (n <= experts && o.compare_slots.empty() && o.slots == 0);
       n += stride) {
    slots.push_back(std::min(n, experts));
  }
  return slots;
}

// Every policy, each with its own lists.
absl::Status RunComparison(const SimulateFlags& o, sim::SimulationOptions simulation,
                           const sim::ParsedTrace& trace) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> slots, ComparedSlots(o, simulation.costs.experts));
  std::vector<sim::ComparedRun> runs;
  Json reports = Json::array();
  for (const int32_t n : slots) {
    simulation.worker.expert_slots = n;
    for (const std::string& policy : scheduler::PlannerNames()) {
      simulation.engine.batching = policy;
      ASSIGN_OR_RETURN(sim::Report report, sim::Simulate(simulation, trace.requests));
      SimulateFlags flags = o;
      flags.batching = policy;
      Json& json = reports.emplace_back(sim::ToJson(report));
      json["config"] = SimulationConfig(flags, simulation, trace.failed_requests);
      runs.push_back({policy, o.eviction, n, std::move(report)});
    }
  }
  if (o.as_json) {
    PrintJson({{"runs", reports}});
  } else {
    std::fputs(sim::ToTable(runs).c_str(), stdout);
  }
  if (!o.plot.empty()) {
    const std::string title = absl::StrCat(o.trace, ", ", simulation.costs.machine, ", rate x ",
                                           o.rate_scale, ", seed ", *o.seed);
    RETURN_IF_ERROR(WriteOutput(o.plot, sim::ToSvg(runs, title)));
  }
  if (o.out.empty()) return absl::OkStatus();
  return WriteOutput(o.out, Json{{"runs", reports}}.dump(1) + "\n");
}

absl::Status RunSimulation(const SimulateFlags& o) {
  ASSIGN_OR_RETURN(sim::SimulationOptions simulation, ToSimulation(o));
  if (!o.compare && !o.plot.empty()) {
    return absl::InvalidArgumentError("--plot goes with --compare");
  }
  ASSIGN_OR_RETURN(const std::string csv, ReadTextFile("trace", o.trace));
  const int64_t requests_max = o.requests == 0 ? sim::kTraceRequestsMax + 1 : o.requests;
  auto trace = sim::ParseTrace(csv, requests_max, o.context_tokens / 2);
  if (!trace.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(o.trace, ": ", trace.status().message()));
  }
  ProgressLine line("requests", /*silent=*/false);
  simulation.progress = [&](int64_t done, int64_t total) { line.Update(done, total); };
  if (trace->failed_requests > 0) {
    std::fprintf(stderr, "%s: %lld requests generated nothing and are left out\n", o.trace.c_str(),
                 static_cast<long long>(trace->failed_requests));
  }
  if (o.compare) return RunComparison(o, std::move(simulation), *trace);
  ASSIGN_OR_RETURN(const sim::Report report, sim::Simulate(simulation, trace->requests));
  Json result = sim::ToJson(report);
  if (!o.as_json) PrintSimulation(result);
  result["config"] = SimulationConfig(o, simulation, trace->failed_requests);
  if (o.as_json) PrintJson(result);
  if (o.out.empty()) return absl::OkStatus();
  return WriteOutput(o.out, result.dump(1) + "\n");
}

}  // namespace

int Simulate(int argc, const char* const* argv) {
  SimulateFlags o;
  OptionSet set("pregate simulate",
                "Runs a trace of requests through the production scheduler in virtual time, at the "
                "costs of a machine. Times in the report are seconds; a reference is one expert "
                "that a step names in one layer.");
  DeclareSimulateFlags(set, &o);
  PARSE_OPTIONS_OR_RETURN(set, "simulate", argc, argv);
  const absl::Status status = RunSimulation(o);
  return status.ok() ? kExitOk : Fail("simulate", status);
}

}  // namespace pregate::cli
