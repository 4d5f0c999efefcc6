// What a step costs when not all experts fit: decode and prefill through StepExecutor with several
// numbers of expert slots, nothing loaded ahead of the step itself. With --exchange-alone, expert
// rows go through the device's collective although one rank runs all. Prints one JSON object.
// usage: expert_slots_bench --model DIR [--device cpu|cuda] [--slots 2,3,5] [--batches 1,8]
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "bench/bench_main.h"
#include "bench/step_driver.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/collective/any/device_collectives.h"
#include "common/collective/local/local_fabric.h"
#include "common/config/option_set.h"
#include "common/device/any/any_device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {
namespace {

struct Options {
  std::string model, device = "cpu", dtype = "bf16";
  int32_t threads = 2, steps = 64, prefill = 256;
  bool exchange_alone = false;
  std::vector<std::string> slots, batches;
  std::optional<uint64_t> seed = 1;
};

// What several steps of one kind took.
class Tally {
 public:
  void Add(const StepRun& times) {
    step_ms_.push_back(times.step_us / 1e3);
    stall_ms_ += times.stall_us / 1e3;
    hits_ += times.unit_hits;
    late_ += times.unit_late_prefetches;
    misses_ += times.unit_misses;
    experts_ += times.unique_experts;
  }
  nlohmann::json Report() {
    std::sort(step_ms_.begin(), step_ms_.end());
    const double n = static_cast<double>(step_ms_.size());
    return {{"step_ms_mean", std::accumulate(step_ms_.begin(), step_ms_.end(), 0.0) / n},
            {"step_ms_median", step_ms_[step_ms_.size() / 2]},
            {"step_ms_p95", step_ms_[step_ms_.size() * 95 / 100]},
            {"stall_ms_mean", stall_ms_ / n},
            {"unit_loads_mean", misses_ / n},
            {"unique_experts_mean", experts_ / n},
            {"hit_ratio", hits_ / std::max(1.0, hits_ + late_ + misses_)}};
  }

 private:
  std::vector<double> step_ms_;
  double stall_ms_ = 0, hits_ = 0, late_ = 0, misses_ = 0, experts_ = 0;
};

nlohmann::json Decode(StepDriver& driver, int batch, int steps) {
  constexpr int kContext = 32, kWarmUp = 8;
  driver.OpenBatch(batch, kContext, kWarmUp + steps);
  Tally tally;
  for (int i = 0; i < kWarmUp + steps; ++i) {
    const StepRun times = driver.DecodeStep(batch);
    if (i >= kWarmUp) tally.Add(times);
  }
  driver.Close();
  nlohmann::json report = tally.Report();
  report["batch"] = batch;
  return report;
}

nlohmann::json Prefill(StepDriver& driver, int tokens) {
  Tally tally;
  for (int i = 0; i < 6; ++i) {
    driver.Open(0, tokens + 1);
    driver.AddRow(0, tokens, true);
    const StepRun times = driver.Run();
    if (i > 0) tally.Add(times);
    driver.Close();
  }
  nlohmann::json report = tally.Report();
  report["tokens"] = tokens;
  return report;
}

// A group of one, over the device's own collective or the threads'.
struct Alone {
  std::unique_ptr<CollectiveFactory> factory;
  std::unique_ptr<Collective> collective;
};
absl::StatusOr<Alone> JoinAlone(Device* device) {
  Alone alone;
  alone.factory = MakeDeviceCollectives(device);
  if (!alone.factory) alone.factory = std::make_unique<LocalFabric>();
  ASSIGN_OR_RETURN(const std::string rendezvous, alone.factory->MakeRendezvous());
  ASSIGN_OR_RETURN(alone.collective, alone.factory->Join(rendezvous, 0, 1, absl::Seconds(60), {}));
  return alone;
}

absl::StatusOr<nlohmann::json> BenchSlots(const Options& o, const Checkpoint& checkpoint,
                                          int32_t slots, const std::vector<int>& batches,
                                          nlohmann::json* head) {
  const ModelSpec& spec = checkpoint.spec();
  ASSIGN_OR_RETURN(const auto device, MakeDevice(o.device, o.threads));
  SystemClock clock;
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(o.dtype));
  options.step_tokens = std::max(o.prefill, 64);
  options.kv_blocks = 2048;
  options.expert_slots = slots;
  ASSIGN_OR_RETURN(auto executor,
                   StepExecutor::Create(checkpoint, device.get(), &clock, options, nullptr));
  Alone alone;
  if (o.exchange_alone) {
    ASSIGN_OR_RETURN(alone, JoinAlone(device.get()));
    Placement placement;
    placement.ranks.assign(spec.num_experts, {0});
    RETURN_IF_ERROR(executor->Form({0}, placement, alone.collective.get(), nullptr));
    (*head)["collective"] = std::string(alone.collective->name());
  }
  (*head)["device"] = executor->device_name();
  (*head)["numerics_id"] = executor->numerics_id();
  StepDriver driver(executor.get(), spec, *o.seed);
  nlohmann::json report = {{"expert_slots", slots},
                           {"expert_mb", executor->memory().expert_bytes / 1e6}};
  for (const int batch : batches) report["decode"].push_back(Decode(driver, batch, o.steps));
  report["prefill"] = Prefill(driver, o.prefill);
  executor.reset();  // before its collective
  return report;
}

absl::Status Bench(const Options& o) {
  constexpr int kBatchMax = 64, kSlotsMax = 1024;  // 64 sequence slots
  ASSIGN_OR_RETURN(const std::vector<int> batches, Numbers("batches", o.batches, kBatchMax));
  ASSIGN_OR_RETURN(const std::vector<int> slots, Numbers("slots", o.slots, kSlotsMax, 0));
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(o.model));
  nlohmann::json report = {{"model", o.model},
                           {"experts", checkpoint->spec().num_experts},
                           {"layers", checkpoint->spec().num_layers},
                           {"dtype", o.dtype},
                           {"threads", o.threads},
                           {"steps", o.steps},
                           {"seed", *o.seed}};
  for (const int n : slots) {
    ASSIGN_OR_RETURN(nlohmann::json one, BenchSlots(o, *checkpoint, n, batches, &report));
    report["slots"].push_back(std::move(one));
  }
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("expert_slots_bench", "Times steps with several numbers of expert slots.");
  set.String("model", &o.model, "pregate or HF directory of an MoE").Required();
  set.Choice("device", &o.device, {"cpu", "cuda"}, "what computes");
  set.Choice("dtype", &o.dtype, pregate::DTypeChoices(), "of weights and KV");
  set.Int("threads", &o.threads, 1, 1024, "threads", "of the CPU device");
  set.Int("steps", &o.steps, 1, 4096, "steps", "decode steps a batch size");
  set.Int("prefill", &o.prefill, 1, 4096, "tokens", "of the one-step prefills");
  set.Switch("exchange-alone", &o.exchange_alone, "expert rows go through a collective of one");
  set.Strings("slots", &o.slots, "numbers of expert slots, 0: all stay (default: 2,3,5,0)");
  set.Strings("batches", &o.batches, "decode batch sizes (default: 1,8)");
  set.OptionalUint64("seed", &o.seed, "of tokens and routes");
  return pregate::BenchMain("expert_slots_bench", set, argc, argv, [&] {
    if (o.slots.empty()) o.slots = {"2", "3", "5", "0"};
    if (o.batches.empty()) o.batches = {"1", "8"};
    return pregate::Bench(o);
  });
}
