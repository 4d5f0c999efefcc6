// Times the router's network on the CPU device: whole prompts by length and threads, beside the time
// that the multipliers alone would take; or on a card, without a floor. Weights are random, of SmolLM2-135M's committed router
// (hidden 384) or of the paper's shape (512). Rounds go over all cases in turn, each beside its own
// measurement of the peak, so that a busy machine spoils both alike; user_ms is processor time, of
// threads that spin too. Prints one JSON object with --json, else a table.
// usage: router_bench [--shape smollm2|paper] [--device cpu|cuda] [--threads 1,2] [--prompts 11,101,256,401]
//                     [--json on]
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <vector>

#include "bench/bench_main.h"
#include "bench/machine_limits.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/any/any_device.h"
#include "common/device/cpu/cpu_device.h"
#include "common/router/testing/random_router.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

constexpr int kVocab = 49152, kExperts = 5, kContextTokens = 4096;

struct Options {
  std::string shape = "smollm2", device = "cpu", json = "off";
  std::vector<std::string> threads, prompts;
  int32_t rounds = 60;
  std::optional<uint64_t> seed = 1;
};

RouterSpec ShapeOf(const std::string& name) {
  return {.num_heads = 4, .hidden = name == "paper" ? 512 : 384, .intermediate = 512};
}

// Multiplications and additions of one prompt: products, and attention over the keys that are seen.
double Operations(const RouterSpec& r, int tokens) {
  const double h = r.hidden, products = 4 * h * h + 2 * h * r.intermediate + h * kExperts;
  return 2 * (tokens * products + h * tokens * (tokens + 1.0));
}

double UserSeconds() {
  rusage use;
  getrusage(RUSAGE_SELF, &use);
  return use.ru_utime.tv_sec + use.ru_utime.tv_usec / 1e6;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One number of threads: a device with its router.
struct Router {
  int threads;
  std::unique_ptr<Device> device;
  std::unique_ptr<cpu::ThreadPool> pool;  // for the peak; null on a card
  std::unique_ptr<OfflineRouter> router;
};

struct Case {
  Router* router;
  int tokens;
  std::vector<double> route_ms, user_ms, floor_ms, share;  // share: floor / route of one round

  absl::Status Run(const RouterSpec& spec, absl::Span<const TokenId> prompt) {
    constexpr int64_t kPeakRounds = 500'000;
    SystemClock clock;
    const absl::Time start = clock.Now();
    const double operations = router->pool ? bench::MultiplyAdd(*router->pool, kPeakRounds) : 0;
    const double peak = operations / absl::ToDoubleSeconds(clock.Now() - start);
    const double user = UserSeconds();
    const absl::Time begin = clock.Now();
    RETURN_IF_ERROR(router->router->RouteAll(prompt.first(tokens)).status());
    route_ms.push_back(absl::ToDoubleMilliseconds(clock.Now() - begin));
    user_ms.push_back((UserSeconds() - user) * 1e3);
    floor_ms.push_back(peak > 0 ? Operations(spec, tokens) / peak * 1e3 : 0);
    share.push_back(floor_ms.back() / route_ms.back());
    return absl::OkStatus();
  }

  nlohmann::json Report(const RouterSpec& spec) const {
    const double best = *std::min_element(route_ms.begin(), route_ms.end());
    const double floor = *std::min_element(floor_ms.begin(), floor_ms.end());
    return {{"tokens", tokens},
            {"threads", router->threads},
            {"mflop", Operations(spec, tokens) / 1e6},
            {"route_ms_median", Median(route_ms)},
            {"route_ms_min", best},
            {"user_ms_median", Median(user_ms)},
            {"floor_ms_median", Median(floor_ms)},
            {"floor_ms_min", floor},
            {"share_of_peak_median", Median(share)},
            {"share_of_peak_best", floor / best}};
  }
};

absl::StatusOr<Router> MakeRouter(const Checkpoint& checkpoint, const std::string& device,
                                  int threads) {
  Router r = {.threads = threads};
  ASSIGN_OR_RETURN(r.device, MakeDevice(device, threads));
  if (device == "cpu") r.pool = std::make_unique<cpu::ThreadPool>(threads);
  ASSIGN_OR_RETURN(r.router, OfflineRouter::Create(checkpoint, *r.device, kContextTokens));
  return r;
}

void Print(const Options& o, const RouterSpec& spec, const std::string& device,
           const std::vector<Case>& cases) {
  nlohmann::json report = {{"shape", o.shape},   {"hidden", spec.hidden}, {"device", device},
                           {"rounds", o.rounds}, {"seed", *o.seed},       {"cases", {}}};
  for (const Case& c : cases) report["cases"].push_back(c.Report(spec));
  if (o.json == "on") {
    std::printf("%s\n", report.dump(1).c_str());
    return;
  }
  std::printf("%s, router of hidden %d, seed %lu\n", device.c_str(), spec.hidden, *o.seed);
  std::printf(
      "tokens threads  median ms   best ms   user ms  floor ms  share of peak: median best\n");
  for (const nlohmann::json& c : report["cases"]) {
    std::printf("%6d %7d %10.3f %9.3f %9.3f %9.3f %22.0f%% %3.0f%%\n", int{c["tokens"]},
                int{c["threads"]}, double{c["route_ms_median"]}, double{c["route_ms_min"]},
                double{c["user_ms_median"]}, double{c["floor_ms_median"]},
                100 * double{c["share_of_peak_median"]}, 100 * double{c["share_of_peak_best"]});
  }
}

absl::Status Bench(const Options& o) {
  const RouterSpec spec = ShapeOf(o.shape);
  const auto checkpoint =
      MakeRandomRouter(RouterOnlySpec(kVocab, kExperts, spec), static_cast<uint32_t>(*o.seed));
  ASSIGN_OR_RETURN(const std::vector<int> threads, Numbers("threads", o.threads, 1024));
  ASSIGN_OR_RETURN(const std::vector<int> prompts, Numbers("prompts", o.prompts, kContextTokens));
  std::vector<Router> routers;
  for (const int n : threads) {
    ASSIGN_OR_RETURN(Router router, MakeRouter(*checkpoint, o.device, n));
    routers.push_back(std::move(router));
  }
  std::vector<Case> cases;
  for (const int tokens : prompts) {
    for (Router& router : routers) cases.push_back({&router, tokens});
  }
  std::mt19937_64 random(*o.seed);
  std::vector<TokenId> prompt(kContextTokens);
  for (TokenId& token : prompt) token = static_cast<TokenId>(random() % kVocab);
  for (int round = 0; round < o.rounds; ++round) {
    for (Case& c : cases) RETURN_IF_ERROR(c.Run(spec, prompt));
  }
  Print(o, spec, routers[0].device->name(), cases);
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("router_bench", "Times the router's network.");
  set.Choice("shape", &o.shape, {"smollm2", "paper"}, "of the router");
  set.Choice("device", &o.device, {"cpu", "cuda"}, "what computes");
  set.Strings("threads", &o.threads, "numbers of threads (default: 1,2; on a card 1)");
  set.Strings("prompts", &o.prompts, "lengths in tokens (default: 11,101,256,401)");
  set.Int("rounds", &o.rounds, 1, 100000, "", "runs of each case");
  set.Choice("json", &o.json, {"on", "off"}, "print one JSON object instead of a table");
  set.OptionalUint64("seed", &o.seed, "of weights and tokens");
  return pregate::BenchMain("router_bench", set, argc, argv, [&] {
    if (o.threads.empty() && o.device == "cpu") o.threads = {"1", "2"};
    if (o.threads.empty()) o.threads = {"1"};
    if (o.prompts.empty()) o.prompts = {"11", "101", "256", "401"};
    return pregate::Bench(o);
  });
}
