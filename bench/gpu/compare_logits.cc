// The same forward pass on the CPU and on a card: logits of random token lists, teacher-forced, on
// the routes that the CPU's router names. Prints one JSON object: relative error over all logits,
// share of equal argmaxes, and how close the two best were where they differ.
// usage: gpu_compare_logits --model DIR [--tokens 2000] [--dtype bf16]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <future>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/any/any_device.h"
#include "common/model/checkpoint.h"
#include "expert_service/engine/step_executor.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

constexpr int kListTokens = 250;

struct Options {
  std::string model, dtype = "bf16";
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
  add.prompt_len = static_cast<int32_t>(tokens.size());
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

absl::StatusOr<std::unique_ptr<Loaded>> Load(const Options& o, const std::string& device) {
  auto loaded = std::make_unique<Loaded>();
  const absl::Time start = loaded->clock.Now();
  ASSIGN_OR_RETURN(loaded->checkpoint, Checkpoint::Open(o.model));
  ASSIGN_OR_RETURN(loaded->device, MakeDevice(device, o.threads));
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.dtype, ParseDType(o.dtype));
  options.step_tokens = kListTokens;
  options.kv_blocks = kListTokens / kKvBlockTokens + 2;
  options.with_replica = false;
  ASSIGN_OR_RETURN(loaded->executor,
                   StepExecutor::Create(*loaded->checkpoint, loaded->device.get(), &loaded->clock,
                                        options, nullptr));
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
  ASSIGN_OR_RETURN(side.logits, RunAll(*loaded.executor, lists,
                                       forced == nullptr ? side.routes : *forced));
  side.run_s = absl::ToDoubleSeconds(loaded.clock.Now() - start);
  return side;
}

nlohmann::json Compare(const Side& cpu, const Side& cuda, int vocab) {
  double difference = 0, norm = 0, worst = 0;
  int64_t tokens = 0, equal = 0;
  std::vector<float> margins;
  for (size_t l = 0; l < cpu.logits.size(); ++l) {
    for (size_t at = 0; at < cpu.logits[l].size(); at += vocab, ++tokens) {
      const float *a = cpu.logits[l].data() + at, *b = cuda.logits[l].data() + at;
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

double RouteAgreement(const Side& cpu, const Side& cuda) {
  int64_t equal = 0, all = 0;
  for (size_t l = 0; l < cpu.routes.size(); ++l) {
    for (size_t i = 0; i < cpu.routes[l].size(); ++i, ++all) {
      equal += cpu.routes[l][i] == cuda.routes[l][i];
    }
  }
  return all == 0 ? 1 : static_cast<double>(equal) / static_cast<double>(all);
}

absl::Status Main(const Options& o) {
  int vocab = 0;
  std::vector<std::vector<TokenId>> lists;
  {
    ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(o.model));
    vocab = checkpoint->spec().vocab_size;
  }
  std::mt19937_64 random(*o.seed);
  for (int left = o.tokens; left > 0; left -= kListTokens) {
    TokenList& list = lists.emplace_back(std::min(left, kListTokens));
    for (TokenId& t : list) t = std::uniform_int_distribution<TokenId>(0, vocab - 1)(random);
  }
  auto loading = std::async(std::launch::async, [&o] { return Load(o, "cuda"); });
  ASSIGN_OR_RETURN(const auto cpu_loaded, Load(o, "cpu"));
  ASSIGN_OR_RETURN(const auto cuda_loaded, loading.get());
  ASSIGN_OR_RETURN(const Side cpu, RunSide(*cpu_loaded, nullptr, lists));
  ASSIGN_OR_RETURN(const Side cuda, RunSide(*cuda_loaded, &cpu.routes, lists));
  nlohmann::json report = Compare(cpu, cuda, vocab);
  report["dtype"] = o.dtype;
  report["seed"] = *o.seed;
  report["route_agreement"] = RouteAgreement(cpu, cuda);
  for (const auto& [name, side] : {std::pair{"cpu", &cpu}, {"cuda", &cuda}}) {
    report[name] = {{"device", side->device}, {"load_s", side->load_s}, {"run_s", side->run_s}};
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
  set.Choice("dtype", &o.dtype, {"f32", "bf16"}, "of weights and KV");
  set.Int("tokens", &o.tokens, 1, 1 << 20, "tokens", "to compare");
  set.Int("threads", &o.threads, 0, 1024, "threads", "of the CPU; 0: all");
  set.OptionalUint64("seed", &o.seed, "of the tokens");
  const auto outcome = set.Parse(argc, argv);
  if (!outcome.ok()) {
    std::fprintf(stderr, "gpu_compare_logits: %s\n", outcome.status().ToString().c_str());
    return 2;
  }
  if (*outcome == pregate::OptionSet::Outcome::kExit) return 0;
  const absl::Status status = pregate::Main(o);
  if (!status.ok()) std::fprintf(stderr, "gpu_compare_logits: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
