// Measures what a step costs on this machine and fits the linear model that `pregate simulate`
// uses:
//   step_s = base + token * tokens + expert_read * experts + key * keys (each row reads its own)
//            + pair * (token, key) pairs + sample * rows that emit
// over a grid of decode batches, prefill chunks, experts and contexts, by least squares on the
// relative error. Also times the copy of one expert unit from host memory into another buffer,
// which is what making it resident takes here. Prints a cost file, with the points and the fit's
// errors. usage: step_cost --model DIR --machine NAME --router-result FILE [--dtype bf16]
// [--threads 2]
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "bench/bench_main.h"
#include "bench/step_driver.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {
namespace {

constexpr int kTerms = 6;
constexpr int32_t kStepTokens = 256;
using Terms = std::array<double, kTerms>;

struct Point {
  Terms terms;  // 1, tokens, experts, keys, pairs, emits
  double seconds = 0;
};

// Sequences of equal length, whose tokens spread evenly over a number of experts.
class Driver {
 public:
  Driver(StepExecutor* executor, const ModelSpec& spec) : steps_(executor, spec, 1), spec_(spec) {}

  void Open(int sequences, int tokens_max) {
    for (int slot = 0; slot < sequences; ++slot) steps_.Open(slot, tokens_max);
  }
  void Close() { steps_.Close(); }
  void Prefill(int tokens, int experts) {
    for (const int slot : all()) {
      for (int left = tokens; left > 0; left -= std::min(left, kStepTokens))
        Step({slot}, std::min(left, kStepTokens), experts, false);
    }
  }
  std::vector<int> all() const {
    std::vector<int> slots(steps_.num_open());
    std::iota(slots.begin(), slots.end(), 0);
    return slots;
  }
  // A row of `count` tokens of each; `experts` distinct routes in turn.
  Point Step(const std::vector<int>& slots, int count, int experts, bool emit) {
    double pairs = 0, keys = 0;
    int next = 0;
    for (const int slot : slots) {
      std::vector<TokenId> tokens;
      std::vector<ExpertId> routes;
      for (int i = 0; i < count; ++i, ++next) {
        tokens.push_back((next * 7919 + 13) % spec_.vocab_size);
        routes.push_back(next * experts / (count * static_cast<int>(slots.size())));
        pairs += steps_.length(slot) + i;
      }
      steps_.AddRow(slot, std::move(tokens), std::move(routes), emit);
      keys += steps_.length(slot);
    }
    const double tokens = count * static_cast<double>(slots.size());
    return {{1, tokens, static_cast<double>(experts), keys, pairs, emit ? double(slots.size()) : 0},
            steps_.Run().step_us / 1e6};
  }

 private:
  StepDriver steps_;
  const ModelSpec& spec_;
};

// The quickest of a few: other work on the machine only adds.
template <typename Measure>
Point Best(int repeats, Measure measure) {
  Point best = measure();
  for (int i = 1; i < repeats; ++i) {
    const Point p = measure();
    if (p.seconds < best.seconds) best = p;
  }
  return best;
}

std::vector<Point> Grid(Driver& driver, int num_experts, int repeats) {
  std::vector<Point> points;
  for (int context : {32, 512}) {
    for (int batch : {1, 2, 4, 8, 16}) {
      driver.Open(batch, context + 16 * repeats);
      driver.Prefill(context, num_experts);
      for (int experts : {1, 3, num_experts}) {
        if (experts > batch) continue;
        points.push_back(
            Best(repeats, [&] { return driver.Step(driver.all(), 1, experts, true); }));
      }
      driver.Close();
    }
  }
  for (int chunk : {32, 64, 128, 256}) {
    for (int experts : {1, num_experts}) {
      points.push_back(Best(2, [&] {
        driver.Open(1, 1024);
        const Point p = driver.Step({0}, chunk, experts, false);
        driver.Close();
        driver.Step({}, 0, 0, false);
        return p;
      }));
    }
  }
  return points;
}

// Least squares over the terms in `use`, each point scaled by its time; the others are 0.
Terms Solve(const std::vector<Point>& points, std::vector<int> use) {
  const size_t n = use.size();
  std::vector<std::vector<double>> m(n, std::vector<double>(n + 1));
  for (const Point& p : points) {
    const double w = 1 / (p.seconds * p.seconds);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) m[i][j] += w * p.terms[use[i]] * p.terms[use[j]];
      m[i][n] += w * p.terms[use[i]] * p.seconds;
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const double f = m[r][i] / m[i][i];
      for (size_t c = i; c <= n; ++c) m[r][c] -= f * m[i][c];
    }
  }
  Terms x{};
  for (size_t i = 0; i < n; ++i) x[use[i]] = m[i][n] / m[i][i];
  return x;
}

// A term that comes out negative has no effect that can be seen; it is left out.
Terms Fit(const std::vector<Point>& points) {
  std::vector<int> use(kTerms);
  std::iota(use.begin(), use.end(), 0);
  while (true) {
    const Terms x = Solve(points, use);
    const auto negative =
        std::find_if(use.begin(), use.end(), [&](int term) { return x[term] < 0; });
    if (negative == use.end()) return x;
    use.erase(negative);
  }
}

// Seconds to copy `bytes` between buffers that no cache holds, on one thread.
double CopySeconds(size_t bytes) {
  constexpr size_t kBuffer = 256 << 20;
  std::vector<char> from(kBuffer, 1), to(kBuffer, 2);
  SystemClock clock;
  double best = 1e9;
  for (size_t at = 0; at + bytes < kBuffer; at += bytes) {
    const absl::Time start = clock.Now();
    std::memcpy(to.data() + at, from.data() + at, bytes);
    best = std::min(best, absl::ToDoubleSeconds(clock.Now() - start));
  }
  PREGATE_CHECK(to[0] == 1);
  return best;
}

struct Options {
  std::string model, machine, commit, router_result, dtype = "bf16";
  int32_t threads = 2, repeats = 5;
};

// Routing's time over prompts of two lengths, and half of what a lockstep step takes beyond the
// worker's time, which is one way on a link; out of bench/serving_overhead.py's result.
absl::StatusOr<nlohmann::json> RouterCost(const std::string& path) {
  std::ifstream in(path);
  const nlohmann::json result = nlohmann::json::parse(in, nullptr, false);
  if (result.is_discarded()) return absl::InvalidArgumentError(path + ": no JSON");
  std::vector<std::pair<double, double>> points;
  const nlohmann::json& lockstep = result.at("lockstep, replica");
  for (const nlohmann::json& row : lockstep.at("first_token")) {
    points.emplace_back(row.at("prompt_tokens"), row.at("route_ms"));
  }
  std::sort(points.begin(), points.end());
  const auto& [n0, t0] = points.front();
  const auto& [n1, t1] = points.back();
  const double token_s = (t1 - t0) / (n1 - n0) / 1e3;
  return nlohmann::json{{"request_s", std::max(t0 / 1e3 - token_s * n0, 0.0)},
                        {"token_s", token_s},
                        {"link_s", lockstep.at("decode").at("rest_ms").get<double>() / 2e3},
                        {"source", path}};
}

absl::Status Run(const Options& o) {
  ASSIGN_OR_RETURN(const DType dtype, ParseDType(o.dtype));
  ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(o.model));
  const ModelSpec& spec = checkpoint->spec();
  if (!spec.is_moe()) return absl::InvalidArgumentError("the model has no experts");
  ASSIGN_OR_RETURN(const nlohmann::json router, RouterCost(o.router_result));
  auto device = MakeCpuDevice({.threads = o.threads});
  SystemClock clock;
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(dtype));
  options.step_tokens = kStepTokens;
  options.kv_blocks = 4096;
  ASSIGN_OR_RETURN(auto executor,
                   StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr));
  Driver driver(executor.get(), spec);
  const std::vector<Point> points = Grid(driver, spec.num_experts, o.repeats);
  const Terms fit = Fit(points);
  double error_max = 0, error_sum = 0;
  nlohmann::json measured = nlohmann::json::array();
  for (const Point& p : points) {
    const double model = std::inner_product(fit.begin(), fit.end(), p.terms.begin(), 0.0);
    const double error = std::abs(model / p.seconds - 1);
    error_max = std::max(error_max, error);
    error_sum += error;
    measured.push_back({{"tokens", p.terms[1]},
                        {"experts", p.terms[2]},
                        {"keys", p.terms[3]},
                        {"pairs", p.terms[4]},
                        {"emits", p.terms[5]},
                        {"ms", p.seconds * 1e3},
                        {"fit_ms", model * 1e3}});
  }
  const size_t unit_bytes = 3 * size_t(spec.own_width[0]) * spec.hidden * DTypeBytes(dtype);
  const nlohmann::json report = {
      {"machine", o.machine},
      {"source", "measured"},
      {"method", "bench/step_cost.cc; router: bench/serving_overhead.py"},
      {"commit", o.commit},
      {"model",
       {{"path", o.model},
        {"digest", executor->model_digest()},
        {"layers", spec.num_layers},
        {"experts", spec.num_experts},
        {"dtype", o.dtype}}},
      {"numerics_id", executor->numerics_id()},
      {"threads", o.threads},
      {"step",
       {{"base_s", fit[0]},
        {"token_s", fit[1]},
        {"expert_read_s", fit[2]},
        {"key_s", fit[3]},
        {"pair_s", fit[4]},
        {"sample_s", fit[5]}}},
      {"unit", {{"bytes", unit_bytes}, {"load_s", CopySeconds(unit_bytes)}}},
      {"router", {{"request_s", router["request_s"]}, {"token_s", router["token_s"]}}},
      {"link_s", router["link_s"]},
      {"router_and_link_source", router["source"]},
      {"fit", {{"error_mean", error_sum / points.size()}, {"error_max", error_max}}},
      {"points", measured}};
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("step_cost", "Measures a step's cost here; prints a cost file.");
  set.String("model", &o.model, "MoE checkpoint").Required();
  set.String("machine", &o.machine, "its name, for the file").Required();
  set.String("commit", &o.commit, "of the build, for the file");
  set.String("router-result", &o.router_result, "result of bench/serving_overhead.py").Required();
  set.Choice("dtype", &o.dtype, pregate::DTypeChoices(), "of weights and KV");
  set.Int("threads", &o.threads, 1, 1024, "threads", "of the device");
  set.Int("repeats", &o.repeats, 1, 100, "", "of each point, of which the best counts");
  return pregate::BenchMain("step_cost", set, argc, argv, [&] { return pregate::Run(o); });
}
