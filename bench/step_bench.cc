// Times the worker's step on this machine: prefill of one prompt and decode at several batch sizes,
// through StepExecutor, beside the bytes that a token reads and the rate at which the same threads
// read memory. Prints one JSON object. usage: step_bench --model DIR [--dtype bf16] [--threads 2]
// [--prefill 512] [--decode 64]
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
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

struct Options {
  std::string model, dtype = "bf16";
  int32_t threads = 2, prefill = 512, decode = 64, repeats = 3;
  std::vector<std::string> batches;
  std::optional<uint64_t> seed = 1;
};

double Seconds(Clock& clock, absl::Time since) {
  return absl::ToDoubleSeconds(clock.Now() - since);
}

// GB/s that `threads` threads read from buffers of 256 MiB each: the floor under decode. Best of
// three.
double ReadBandwidth(int threads) {
  constexpr size_t kWords = (256 << 20) / 8;
  std::vector<std::vector<uint64_t>> buffers(threads, std::vector<uint64_t>(kWords, 1));
  std::vector<uint64_t> sums(threads);
  SystemClock clock;
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const absl::Time start = clock.Now();
    std::vector<std::thread> readers;
    for (int t = 0; t < threads; ++t) {
      readers.emplace_back([&, t] {
        uint64_t lanes[8] = {};
        for (size_t i = 0; i < kWords; i += 8) {
          for (size_t j = 0; j < 8; ++j) lanes[j] += buffers[t][i + j];
        }
        sums[t] = std::accumulate(lanes, lanes + 8, uint64_t{0});
      });
    }
    for (std::thread& r : readers) r.join();
    best = std::max(best, threads * kWords * 8 / Seconds(clock, start) / 1e9);
  }
  PREGATE_CHECK(sums[0] == kWords);
  return best;
}

// Seconds of a prefill of `tokens`, in chunks of the step's budget; the best of `repeats`.
double PrefillSeconds(StepDriver& driver, int tokens, int chunk, int repeats) {
  double best = 1e30;
  for (int r = 0; r < repeats; ++r) {
    driver.Open(0, tokens + 1);
    int64_t us = 0;
    for (int done = 0; done < tokens; done += chunk) {
      const int count = std::min(chunk, tokens - done);
      driver.AddRow(0, count, done + count == tokens);
      us += driver.Run().step_us;
    }
    driver.Close();
    best = std::min(best, us / 1e6);
  }
  return best;
}

nlohmann::json DecodeReport(StepDriver& driver, int batch, int steps, int64_t token_bytes,
                            double read_gbs) {
  constexpr int kContext = 32;
  driver.OpenBatch(batch, kContext, steps);
  std::vector<double> step_s, router_s, sample_s;
  for (int i = 0; i < steps; ++i) {
    const StepRun times = driver.DecodeStep(batch);
    step_s.push_back(times.step_us / 1e6);
    router_s.push_back(times.router_us / 1e6);
    sample_s.push_back(times.sample_us / 1e6);
  }
  driver.Close();
  const double median = Median(step_s), best = *std::min_element(step_s.begin(), step_s.end());
  return {{"batch", batch},
          {"step_ms_median", median * 1e3},
          {"step_ms_min", best * 1e3},
          {"tokens_per_s", batch / median},
          {"router_ms_median", Median(router_s) * 1e3},
          {"sample_ms_median", Median(sample_s) * 1e3},
          {"share_of_read_floor", token_bytes / (read_gbs * 1e9) / median}};
}

absl::Status Bench(const Options& o) {
  constexpr int kBatchMax = 64;  // sequence slots
  ASSIGN_OR_RETURN(const std::vector<int> batches, Numbers("batches", o.batches, kBatchMax));
  ASSIGN_OR_RETURN(const DType dtype, ParseDType(o.dtype));
  ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(o.model));
  const ModelSpec& spec = checkpoint->spec();
  auto device = MakeCpuDevice({.threads = o.threads});
  SystemClock clock;
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(dtype));
  options.step_tokens = 512;
  options.kv_blocks = 4096;
  ASSIGN_OR_RETURN(auto executor,
                   StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr));
  StepDriver driver(executor.get(), spec, *o.seed);
  const double read_gbs = ReadBandwidth(o.threads);
  const int64_t token_bytes = TokenBytes(spec, dtype);
  nlohmann::json report = {{"model", o.model},
                           {"experts", spec.num_experts},
                           {"dtype", o.dtype},
                           {"threads", o.threads},
                           {"seed", *o.seed},
                           {"device", executor->device_name()},
                           {"numerics_id", executor->numerics_id()},
                           {"read_gb_per_s", read_gbs},
                           {"token_mb", token_bytes / 1e6}};
  const double prefill_s = PrefillSeconds(driver, o.prefill, options.step_tokens, o.repeats);
  report["prefill"] = {
      {"tokens", o.prefill}, {"seconds", prefill_s}, {"tokens_per_s", o.prefill / prefill_s}};
  for (const int batch : batches) {
    report["decode"].push_back(DecodeReport(driver, batch, o.decode, token_bytes, read_gbs));
  }
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("step_bench", "Times the worker's step on this machine.");
  set.String("model", &o.model, "pregate or HF directory, or GGUF file").Required();
  set.Choice("dtype", &o.dtype, pregate::DTypeChoices(), "of weights and KV");
  set.Int("threads", &o.threads, 1, 1024, "threads", "of the device");
  set.Int("prefill", &o.prefill, 1, 1 << 16, "tokens", "length of the prompt");
  set.Int("decode", &o.decode, 1, 4096, "steps", "decode steps a batch size");
  set.Int("repeats", &o.repeats, 1, 100, "", "prefills, of which the best counts");
  set.Strings("batches", &o.batches, "decode batch sizes (default: 1,8)");
  set.OptionalUint64("seed", &o.seed, "of tokens and routes");
  return pregate::BenchMain("step_bench", set, argc, argv, [&] {
    if (o.batches.empty()) o.batches = {"1", "8"};
    return pregate::Bench(o);
  });
}
