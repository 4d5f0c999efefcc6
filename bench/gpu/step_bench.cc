// Times the worker's step on a card: decode at several batch sizes and one prefill, each beside its
// floor, which is the bytes it must read over the card's copy bandwidth (and over the rate at which a
// kernel reads that writes nothing), or the operations it must do over the card's rate of bf16 products.
// Prints one JSON object. Routes are drawn, in runs as the router's, and tokens too, so that the
// replica sees each before its step; with --late they are those of the step before, on the replica's
// routes, as in serving. --experts-in-batch adds steps of each batch, and prefills, whose routes are forced to
// name so many experts. --mixed adds a chunk of a prompt, decode rows, and both in one step. --profile
// runs decode steps of each batch and one prefill, each between cudaProfilerStart and Stop
// (kernel_trace.cc).
// usage: gpu_step_bench --model DIR [--batches 1,8,32] [--context 590] [--prefill 4096]
#include <cuda_profiler_api.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_join.h"
#include "bench/bench_main.h"
#include "bench/gpu/card_limits.h"
#include "bench/step_driver.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/cuda/cuda_device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {
namespace {

constexpr DType kDType = DType::kBF16;

struct Options {
  std::string model;
  bool profile = false, launches = false, late = false;
  int32_t context = 590, prefill = 4096, steps = 40, repeats = 5, profile_steps = 1;
  std::vector<std::string> batches, experts_in_batch, mixed;
  std::optional<uint64_t> seed = 1;
};

struct Bench {
  CudaDevice& device;
  StepDriver& driver;
  const ModelSpec& spec;
  const CardLimits& card;
  const Options& options;
  const std::vector<int>& batches;

  // experts 0: on drawn routes, or late ones.
  nlohmann::json Decode(int batch, int experts);
  nlohmann::json Prefill(int experts);
  nlohmann::json Mixed(int chunk, int rows);
  void Profile();
};

int64_t OwnBytes(const ModelSpec& spec) {
  int64_t elements = 0;
  for (int l = 0; l < spec.num_layers && spec.is_moe(); ++l) {
    elements += int64_t{3} * spec.hidden * spec.own_width[l];
  }
  return elements * static_cast<int64_t>(DTypeBytes(kDType));
}

// Keys and values of one position in all layers.
int64_t KvBytes(const ModelSpec& spec) {
  return int64_t{2} * spec.num_layers * spec.num_kv_heads * spec.head_dim *
         static_cast<int64_t>(DTypeBytes(kDType));
}

nlohmann::json Bench::Decode(int batch, int experts_forced) {
  const auto step = [&] {
    return experts_forced > 0 ? driver.DecodeStepOf(batch, experts_forced)
                              : driver.DecodeStep(batch, options.late);
  };
  driver.OpenBatch(batch, options.context, options.steps + 6);
  for (int i = 0; i < 4; ++i) step();
  const CudaCounts before = device.counts();
  std::vector<double> step_ms, experts, enqueue_ms;
  for (int i = 0; i < options.steps; ++i) {
    const StepRun times = step();
    step_ms.push_back(times.step_us / 1e3);
    enqueue_ms.push_back((times.router_us + times.forward_us + times.sample_us) / 1e3);
    experts.push_back(times.unique_experts);
  }
  driver.Close();
  double experts_mean = 0;
  for (const double n : experts) experts_mean += n / static_cast<double>(experts.size());
  const double bytes = static_cast<double>(TokenBytes(spec, kDType)) +
                       std::max(0.0, experts_mean - 1) * static_cast<double>(OwnBytes(spec)) +
                       static_cast<double>(KvBytes(spec)) * batch * options.context;
  const double floor_ms = bytes / card.copy_tb_per_s / 1e9, median = Median(step_ms);
  const double read_floor_ms = bytes / card.read_tb_per_s / 1e9;
  nlohmann::json row = {
      {"batch", batch},
      {"context", options.context},
      {"routes", experts_forced > 0 ? "forced"
                 : options.late     ? "late"
                                    : "drawn"},
      {"step_ms_median", median},
      {"step_ms_min", *std::min_element(step_ms.begin(), step_ms.end())},
      {"enqueue_ms_median", Median(enqueue_ms)},
      {"experts_mean", experts_mean},
      {"floor_gb", bytes / 1e9},
      {"floor_ms", floor_ms},
      {"times_floor", median / floor_ms},
      {"read_floor_ms", read_floor_ms},
      {"times_read_floor", median / read_floor_ms},
      {"launches_per_step", double(device.counts().launches - before.launches) / options.steps},
      {"allocations", device.counts().allocations - before.allocations},
      {"tokens_per_s", batch * 1e3 / median}};
  if (experts_forced > 0) row["unique_experts"] = experts_forced;
  return row;
}

// No logits: 4,096 tokens fill the model's context.
nlohmann::json Bench::Prefill(int experts_forced) {
  const int n = options.prefill;
  std::vector<double> ms;
  for (int r = 0; r < options.repeats; ++r) {
    driver.Open(0, n);
    experts_forced > 0 ? driver.AddRowOf(0, n, experts_forced, false) : driver.AddRow(0, n, false);
    ms.push_back(driver.Run().step_us / 1e3);
    driver.Close();
  }
  const double logits = 2.0 * spec.vocab_size * spec.hidden;
  const double per_token =
      static_cast<double>(TokenBytes(spec, kDType)) / DTypeBytes(kDType) * 2 - logits;
  // Causal: position p meets p + 1 keys, in two products.
  const double attention = 4.0 * spec.num_layers * spec.num_heads * spec.head_dim * n * (n + 1) / 2;
  const double flop = per_token * n + attention;
  const double floor_ms = flop / card.bf16_tflop_per_s / 1e9, median = Median(ms);
  nlohmann::json row = {{"tokens", n},
                        {"ms_median", median},
                        {"ms_first", ms[0]},
                        {"tflop", flop / 1e12},
                        {"floor_ms", floor_ms},
                        {"times_floor", median / floor_ms},
                        {"share_of_bf16_rate", floor_ms / median},
                        {"tokens_per_s", n * 1e3 / median}};
  if (experts_forced > 0) row["unique_experts"] = experts_forced;
  return row;
}

// In turn, so that what the card does meanwhile is in all three. Each chunk is the first of a new sequence.
nlohmann::json Bench::Mixed(int chunk, int rows) {
  constexpr int kWarmUp = 4;
  const int rounds = kWarmUp + options.steps;
  driver.OpenBatch(rows, options.context, 2 * rounds);
  driver.Open(rows, chunk);
  bool is_new = true;
  const auto add_chunk = [&] {
    if (!std::exchange(is_new, false)) driver.Restart(rows);
    driver.AddRow(rows, chunk, false);
  };
  std::vector<double> chunk_ms, rows_ms, together_ms;
  for (int i = 0; i < rounds; ++i) {
    add_chunk();
    const double chunk_alone = driver.Run().step_us / 1e3;
    const double rows_alone = driver.DecodeStep(rows, options.late).step_us / 1e3;
    driver.AddDecodeRows(rows, options.late);
    add_chunk();
    const double together = driver.Run().step_us / 1e3;
    if (i < kWarmUp) continue;
    chunk_ms.push_back(chunk_alone);
    rows_ms.push_back(rows_alone);
    together_ms.push_back(together);
  }
  driver.Close();
  const double sum = Median(chunk_ms) + Median(rows_ms), together = Median(together_ms);
  return {{"chunk", chunk},
          {"rows", rows},
          {"context", options.context},
          {"routes_of_rows", options.late ? "late" : "drawn"},
          {"chunk_ms_median", Median(chunk_ms)},
          {"rows_ms_median", Median(rows_ms)},
          {"sum_ms", sum},
          {"together_ms_median", together},
          {"together_over_sum", together / sum}};
}

// Decode steps, then a prefill, each between profiler marks; prints how many launches each made and
// how many experts its tokens named. The name is the step's: "decode of 8", the second "decode of 8, 2".
void Bench::Profile() {
  nlohmann::ordered_json launches;
  const auto profile = [&](const std::string& name, const auto& run) {
    const int64_t before = device.counts().launches;
    cudaProfilerStart();
    const StepRun step = run();
    cudaProfilerStop();
    launches[name] = {{"launches", device.counts().launches - before},
                      {"unique_experts", step.unique_experts}};
  };
  for (const int n : batches) {
    driver.OpenBatch(n, options.context, options.profile_steps + 2);
    for (int i = 0; i < 2; ++i) driver.DecodeStep(n, options.late);
    for (int i = 1; i <= options.profile_steps; ++i) {
      profile(absl::StrCat("decode of ", n, i > 1 ? absl::StrCat(", ", i) : ""),
              [&] { return driver.DecodeStep(n, options.late); });
    }
    driver.Close();
  }
  driver.Open(0, options.prefill);
  driver.AddRow(0, options.prefill, false);
  profile("prefill", [&] { return driver.Run(); });
  std::printf("%s\n", launches.dump().c_str());
}

// {chunk, rows}; empty: not wanted.
absl::StatusOr<std::vector<int>> ParseMixed(const Options& o) {
  ASSIGN_OR_RETURN(std::vector<int> mixed, Numbers("mixed", o.mixed, o.prefill));
  if (mixed.empty()) return mixed;
  if (mixed.size() != 2 || mixed[0] + mixed[1] > o.prefill) {
    return absl::InvalidArgumentError(absl::StrCat("--mixed: '", absl::StrJoin(o.mixed, ","),
                                                   "' is no CHUNK,ROWS of at most --prefill ",
                                                   o.prefill, " tokens together"));
  }
  return mixed;
}

absl::Status Run(const Options& o) {
  ASSIGN_OR_RETURN(const std::vector<int> batches, Numbers("batches", o.batches, o.prefill));
  ASSIGN_OR_RETURN(const std::vector<int> mixed, ParseMixed(o));
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(o.model));
  const ModelSpec& spec = checkpoint->spec();
  ASSIGN_OR_RETURN(const std::vector<int> experts_in_batch,
                   Numbers("experts-in-batch", o.experts_in_batch, spec.num_experts));
  if (o.profile && !experts_in_batch.empty()) {
    return absl::InvalidArgumentError("--experts-in-batch: --profile runs no forced routes");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<CudaDevice> device,
                   MakeCudaDevice({.step_kernel = !o.launches}));
  CardLimits card;
  if (!o.profile) {
    ASSIGN_OR_RETURN(card, MeasureCard(*device));
  }
  SystemClock clock;
  const int batch_max = *std::max_element(batches.begin(), batches.end());
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(kDType));
  options.step_tokens = o.prefill;
  const int rows_max = std::max(batch_max, mixed.empty() ? 0 : mixed[1]);
  const int steps_max = std::max(mixed.empty() ? o.steps : 2 * o.steps, o.profile_steps);
  options.seq_slots = std::max(options.seq_slots, rows_max + 1);
  options.logits_rows_max = std::max(options.logits_rows_max, rows_max);
  const int decode_blocks = rows_max * ((o.context + steps_max + 16) / kKvBlockTokens + 1);
  const int chunk_blocks = mixed.empty() ? 0 : mixed[0] / kKvBlockTokens + 1;
  options.kv_blocks = std::max(o.prefill / kKvBlockTokens + 1, decode_blocks + chunk_blocks);
  const absl::Time start = clock.Now();
  ASSIGN_OR_RETURN(const auto executor,
                   StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr));
  StepDriver driver(executor.get(), spec, *o.seed);
  Bench bench = {*device, driver, spec, card, o, batches};
  if (o.profile) {
    bench.Profile();
    return absl::OkStatus();
  }
  nlohmann::json report = {{"device", device->name()},
                           {"numerics_id", device->numerics_id(options.types)},
                           {"layers", spec.num_layers},
                           {"experts", spec.num_experts},
                           {"few_rows", o.launches ? "launches" : "step kernel"},
                           {"seed", *o.seed},
                           {"load_s", absl::ToDoubleSeconds(clock.Now() - start)},
                           {"copy_tb_per_s", card.copy_tb_per_s},
                           {"read_tb_per_s", card.read_tb_per_s},
                           {"bf16_tflop_per_s", card.bf16_tflop_per_s},
                           {"token_gb", static_cast<double>(TokenBytes(spec, kDType)) / 1e9}};
  report["prefill"] = bench.Prefill(0);
  for (const int batch : batches) report["decode"].push_back(bench.Decode(batch, 0));
  for (const int batch : batches) {
    for (const int n : experts_in_batch) {
      if (n <= batch) report["experts_in_batch"].push_back(bench.Decode(batch, n));
    }
  }
  for (const int n : experts_in_batch) {
    if (n <= o.prefill) report["experts_in_prefill"].push_back(bench.Prefill(n));
  }
  if (!mixed.empty()) report["mixed"] = bench.Mixed(mixed[0], mixed[1]);
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("gpu_step_bench", "Times the worker's step on a card.");
  set.String("model", &o.model, "checkpoint directory").Required();
  set.Switch("profile", &o.profile,
             "decode steps of each batch size and one prefill between profiler marks");
  set.Int("profile-steps", &o.profile_steps, 1, 100, "steps", "of decode that --profile marks");
  set.Switch("launches", &o.launches,
             "no step kernel: steps of few rows are launches too, whose parts a trace tells apart");
  set.Int("context", &o.context, 1, 1 << 16, "tokens", "that a decoded token sees");
  set.Int("prefill", &o.prefill, 1, 1 << 16, "tokens", "length of the prompt, one step");
  set.Int("steps", &o.steps, 1, 4096, "steps", "decode steps a batch size");
  set.Int("repeats", &o.repeats, 1, 100, "", "prefills, of which the median counts");
  set.Strings("batches", &o.batches, "decode batch sizes (default: 1,8,32)");
  set.Strings("experts-in-batch", &o.experts_in_batch,
              "further decode steps and prefills, on routes forced to name so many experts");
  set.Switch("late", &o.late,
             "decode tokens are those that the step before sampled, on the replica's routes");
  set.Strings(
      "mixed", &o.mixed,
      "CHUNK,ROWS: a prompt's chunk alone, so many decode rows alone, and both in one step");
  set.OptionalUint64("seed", &o.seed, "of tokens and routes");
  return pregate::BenchMain("gpu_step_bench", set, argc, argv, [&] {
    if (o.batches.empty()) o.batches = {"1", "8", "32"};
    return pregate::Run(o);
  });
}
