// The same forward pass on the CPU and on a card, in bf16 and in f32: logits of random token lists,
// teacher-forced, on the routes that the CPU's router names. The checkpoint holds bf16 weights, so
// that f32 computes with the same ones and the CPU's f32 is the reference for all: a bf16 side's
// distance from it is the rounding of activations to 8 bits, which any bf16 device has.
// Prints one JSON object with a list of pairs: relative error over all logits, share of equal
// argmaxes, and how close the two best were where they differ.
// usage: gpu_compare_logits --model DIR [--tokens 2000] [--sides
// cpu-f32,cpu-bf16,cuda-bf16,cuda-f32]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <future>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "bench/bench_main.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/any/any_device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/step_executor.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

constexpr int kListTokens = 250;

struct Options {
  std::string model;
  std::vector<std::string> sides;  // DEVICE-DTYPE; the first one is the reference
  int32_t tokens = 2000, threads = 0;
  std::optional<uint64_t> seed = 1;
};

using TokenList = std::vector<TokenId>;

// One device's answers.
struct Side {
  std::vector<std::vector<ExpertId>> routes;  // [lists][tokens]; empty for a dense model
  std::vector<std::vector<float>> logits;     // [lists][tokens * vocab]
  std::string device;
  double load_s = 0, run_s = 0;
};

absl::StatusOr<std::vector<std::vector<ExpertId>>> RouteAll(const Checkpoint& checkpoint,
                                                            Device& device,
                                                            const std::vector<TokenList>& lists) {
  std::vector<std::vector<ExpertId>> routes(lists.size());
  if (!checkpoint.spec().is_moe()) return routes;
  ASSIGN_OR_RETURN(const auto router, OfflineRouter::Create(checkpoint, device, kListTokens));
  for (size_t i = 0; i < lists.size(); ++i) {
    ASSIGN_OR_RETURN(RoutedTokens routed, router->RouteAll(lists[i]));
    routes[i] = std::move(routed.routes);
  }
  return routes;
}

// One list in one step, in slot 0.
StepPlan PlanFor(const TokenList& tokens, const std::vector<ExpertId>& routes, StepId step) {
  StepPlan plan;
  plan.epoch = 1;
  plan.step_id = step;
  if (step > 1) plan.drop = {0};
  SequenceAdd add;
  add.seq_id = step;
  plan.add.push_back(add);
  BlockTableUpdate blocks{0, 0, std::vector<BlockId>(tokens.size() / kKvBlockTokens + 1)};
  std::iota(blocks.ids.begin(), blocks.ids.end(), 0);
  plan.blocks.push_back(blocks);
  Row row;
  row.count = static_cast<int32_t>(tokens.size());
  row.tokens = tokens;
  row.routes = routes;
  row.emit = Emit::kLogits;
  plan.rows.push_back(row);
  return plan;
}

absl::StatusOr<std::vector<std::vector<float>>> RunAll(
    StepExecutor& executor, const std::vector<TokenList>& lists,
    const std::vector<std::vector<ExpertId>>& routes) {
  std::vector<std::vector<float>> logits;
  for (size_t i = 0; i < lists.size(); ++i) {
    StepResult result = executor.Run(PlanFor(lists[i], routes[i], i + 1), nullptr);
    RETURN_IF_ERROR(result.status);
    if (result.logits.size() != 1) return absl::InternalError("a list has no logits");
    logits.push_back(std::move(result.logits[0].logits));
  }
  return logits;
}

struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  SystemClock clock;
  std::unique_ptr<StepExecutor> executor;
  double load_s = 0;
};

absl::StatusOr<std::unique_ptr<Loaded>> Load(const Options& o, const std::string& side) {
  const size_t dash = side.find('-');
  auto loaded = std::make_unique<Loaded>();
  const absl::Time start = loaded->clock.Now();
  ASSIGN_OR_RETURN(loaded->checkpoint, Checkpoint::Open(o.model));
  ASSIGN_OR_RETURN(loaded->device, MakeDevice(side.substr(0, dash), o.threads));
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(side.substr(std::min(side.size(), dash + 1))));
  options.step_tokens = kListTokens;
  options.kv_blocks = kListTokens / kKvBlockTokens + 2;
  options.with_replica = false;
  ASSIGN_OR_RETURN(loaded->executor, StepExecutor::Create(*loaded->checkpoint, loaded->device.get(),
                                                          &loaded->clock, options, nullptr));
  loaded->load_s = absl::ToDoubleSeconds(loaded->clock.Now() - start);
  return loaded;
}

// `forced` (may be null): the routes to run on; null: the device's own router's.
absl::StatusOr<Side> RunSide(Loaded& loaded, const std::vector<std::vector<ExpertId>>* forced,
                             const std::vector<TokenList>& lists) {
  Side side;
  side.device = loaded.device->name();
  side.load_s = loaded.load_s;
  ASSIGN_OR_RETURN(side.routes, RouteAll(*loaded.checkpoint, *loaded.device, lists));
  const absl::Time start = loaded.clock.Now();
  ASSIGN_OR_RETURN(side.logits,
                   RunAll(*loaded.executor, lists, forced == nullptr ? side.routes : *forced));
  side.run_s = absl::ToDoubleSeconds(loaded.clock.Now() - start);
  return side;
}

nlohmann::json Compare(const Side& reference, const Side& other, int vocab) {
  double difference = 0, norm = 0, worst = 0;
  int64_t tokens = 0, equal = 0;
  std::vector<float> margins;
  for (size_t l = 0; l < reference.logits.size(); ++l) {
    for (size_t at = 0; at < reference.logits[l].size(); at += vocab, ++tokens) {
      const float *a = reference.logits[l].data() + at, *b = other.logits[l].data() + at;
      double row_difference = 0, row_norm = 0;
      for (int v = 0; v < vocab; ++v) {
        row_difference += (double{a[v]} - b[v]) * (double{a[v]} - b[v]);
        row_norm += double{a[v]} * a[v];
      }
      difference += row_difference;
      norm += row_norm;
      worst = std::max(worst, std::sqrt(row_difference / row_norm));
      const auto best_a = std::max_element(a, a + vocab) - a;
      const auto best_b = std::max_element(b, b + vocab) - b;
      equal += best_a == best_b;
      if (best_a != best_b) margins.push_back(a[best_a] - a[best_b]);
    }
  }
  std::sort(margins.begin(), margins.end());
  return {{"tokens", tokens},
          {"relative_error", std::sqrt(difference / norm)},
          {"relative_error_worst_token", worst},
          {"argmax_agreement", static_cast<double>(equal) / static_cast<double>(tokens)},
          {"logit_rms", std::sqrt(norm / static_cast<double>(tokens * vocab))},
          {"margins_where_they_differ", margins}};
}

double RouteAgreement(const Side& a, const Side& b) {
  int64_t equal = 0, all = 0;
  for (size_t l = 0; l < a.routes.size(); ++l) {
    for (size_t i = 0; i < a.routes[l].size(); ++i, ++all)
      equal += a.routes[l][i] == b.routes[l][i];
  }
  return all == 0 ? 1 : static_cast<double>(equal) / static_cast<double>(all);
}

std::vector<TokenList> RandomLists(const Options& o, int vocab) {
  std::mt19937_64 random(*o.seed);
  std::vector<TokenList> lists;
  for (int left = o.tokens; left > 0; left -= kListTokens) {
    TokenList& list = lists.emplace_back(std::min(left, kListTokens));
    for (TokenId& t : list) t = std::uniform_int_distribution<TokenId>(0, vocab - 1)(random);
  }
  return lists;
}

// Loading takes longest, so all sides load at once; then they run one after the other.
absl::StatusOr<std::vector<Side>> RunSides(const Options& o, int* vocab) {
  std::vector<std::future<absl::StatusOr<std::unique_ptr<Loaded>>>> loading;
  for (const std::string& side : o.sides) {
    loading.push_back(std::async(std::launch::async, [&o, &side] { return Load(o, side); }));
  }
  std::vector<Side> sides;
  sides.reserve(o.sides.size());
  std::vector<TokenList> lists;
  for (auto& load : loading) {
    ASSIGN_OR_RETURN(const auto loaded, load.get());
    *vocab = loaded->checkpoint->spec().vocab_size;
    if (lists.empty()) lists = RandomLists(o, *vocab);
    ASSIGN_OR_RETURN(Side side,
                     RunSide(*loaded, sides.empty() ? nullptr : &sides[0].routes, lists));
    sides.push_back(std::move(side));
  }
  return sides;
}

absl::Status Main(const Options& o) {
  int vocab = 0;
  ASSIGN_OR_RETURN(const std::vector<Side> sides, RunSides(o, &vocab));
  nlohmann::json report = {{"seed", *o.seed}};
  for (size_t i = 0; i < sides.size(); ++i) {
    report["sides"][o.sides[i]] = {{"device", sides[i].device},
                                   {"load_s", sides[i].load_s},
                                   {"run_s", sides[i].run_s},
                                   {"route_agreement", RouteAgreement(sides[0], sides[i])}};
    for (size_t j = 0; j < i; ++j) {
      report["pairs"][o.sides[i] + " against " + o.sides[j]] = Compare(sides[j], sides[i], vocab);
    }
  }
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("gpu_compare_logits", "Compares logits of the CPU and a card.");
  set.String("model", &o.model, "checkpoint directory").Required();
  set.Strings("sides", &o.sides, "devices and dtypes, the reference first (default: all four)");
  set.Int("tokens", &o.tokens, 1, 1 << 20, "tokens", "to compare");
  set.Int("threads", &o.threads, 0, 1024, "threads", "of the CPU; 0: all");
  set.OptionalUint64("seed", &o.seed, "of the tokens");
  return pregate::BenchMain("gpu_compare_logits", set, argc, argv, [&] {
    if (o.sides.empty()) o.sides = {"cpu-f32", "cpu-bf16", "cuda-bf16", "cuda-f32"};
    return pregate::Main(o);
  });
}
