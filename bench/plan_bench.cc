// What a plan costs the scheduler, with the prefix cache and without, where nothing is ever found: many
// sequences decode, each from its own prompt, in lockstep. Prints one JSON object; times in µs.
// usage: plan_bench [--sequences 1,32,256] [--prompt 256] [--steps 2000] [--rounds 5]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/bench_main.h"
#include "common/config/option_set.h"
#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/random_source.h"

namespace {
int64_t num_allocations = 0;  // of this program's one thread
}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  ++num_allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace pregate::scheduler {
namespace {

struct Options {
  std::vector<std::string> sequences = {"1", "32", "256"};
  int32_t prompt = 256, steps = 2000, rounds = 5;
};

// Of one step: View, Propose, Commit and the answers.
struct Cost {
  double us = 0;
  double allocations = 0;
};

Cost Measure(const Options& options, int32_t num_sequences, bool prefix_cache) {
  SplitMix64 random(1);
  Batch batch(prefix_cache);
  const int32_t blocks = num_sequences * (options.prompt + options.steps + 32) / kKvBlockTokens;
  batch.Reset({{0, blocks}}, num_sequences);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (int32_t i = 0; i < num_sequences; ++i) {
    auto s = std::make_unique<Sequence>();
    s->id = i + 1;
    s->prompt_len = options.prompt;
    s->max_len = options.prompt + options.steps + 16;
    s->tokens.reserve(s->max_len);
    s->routes.reserve(s->max_len);
    s->empty_prefix = EmptyPrefix("model", "");
    for (int32_t t = 0; t < options.prompt; ++t) {
      s->Append(static_cast<TokenId>(random.Next() % 50000), 0);
    }
    batch.Enqueue(s.get());
    sequences.push_back(std::move(s));
  }
  const FcfsPlanner planner;
  StepId step = 1;
  const auto run = [&] {
    PlannerView base;
    base.step_id = step;
    base.step_tokens = num_sequences * options.prompt;
    batch.Commit(planner.Propose(batch.View(base)), 1, step++);
    for (const auto& s : sequences) {
      batch.OnSamples(s.get(), 1);
      s->Append(static_cast<TokenId>(random.Next() % 50000), 0);
    }
  };
  run();  // prefill
  const int64_t allocations = num_allocations;
  const auto begin = std::chrono::steady_clock::now();
  for (int32_t i = 0; i < options.steps; ++i) run();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  return {took.count() / options.steps,
          static_cast<double>(num_allocations - allocations) / options.steps};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Run(const Options& options) {
  ASSIGN_OR_RETURN(const std::vector<int> numbers,
                   Numbers("sequences", options.sequences, /*max=*/4096));
  nlohmann::json cases;
  for (const int sequences : numbers) {
    std::vector<double> us[2];
    Cost cost[2];
    for (int32_t round = 0; round < options.rounds; ++round) {
      for (const bool cache : {false, true}) {
        cost[cache] = Measure(options, sequences, cache);
        us[cache].push_back(cost[cache].us);
      }
    }
    cases.push_back({{"sequences", sequences},
                     {"step_us_without", Median(us[0])},
                     {"step_us_with", Median(us[1])},
                     {"allocations_a_step_without", cost[0].allocations},
                     {"allocations_a_step_with", cost[1].allocations}});
  }
  const nlohmann::json result = {{"prompt", options.prompt},
                                 {"steps", options.steps},
                                 {"rounds", options.rounds},
                                 {"cases", cases}};
  std::puts(result.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate::scheduler

int main(int argc, char** argv) {
  pregate::scheduler::Options options;
  pregate::OptionSet set("plan_bench", "What a plan costs the scheduler.");
  set.Strings("sequences", &options.sequences, "sequences that decode");
  set.Int("prompt", &options.prompt, 1, 1 << 16, "tokens", "of each");
  set.Int("steps", &options.steps, 1, 1 << 20, "steps", "that are timed");
  set.Int("rounds", &options.rounds, 1, 100, "rounds", "the median counts");
  return pregate::BenchMain("plan_bench", set, argc, argv, [&] { return Run(options); });
}
