// Loads a worker's model on the CPU once and says what it took: seconds, processor time, peak
// memory, and the bytes of the tensors read, beside the time in which as many threads read the same
// number of bytes from the model's files (page cache warm) into a small buffer each. Prints one JSON
// object. usage: load_bench --model DIR [--dtype bf16] [--threads 2]
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "bench/bench_main.h"
#include "common/base/clock.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {
namespace {

struct Options {
  std::string model, dtype = "bf16";
  int32_t threads = 2;
};

struct Use {
  double user_s, system_s, peak_rss_mb;
};

Use UseNow() {
  rusage use;
  getrusage(RUSAGE_SELF, &use);
  return {use.ru_utime.tv_sec + use.ru_utime.tv_usec / 1e6,
          use.ru_stime.tv_sec + use.ru_stime.tv_usec / 1e6, use.ru_maxrss / 1024.0};
}

std::vector<std::string> WeightFiles(const std::string& model) {
  if (!std::filesystem::is_directory(model)) return {model};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(model)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Seconds in which `threads` read all bytes of `files`.
absl::StatusOr<double> ReadFloor(const std::vector<std::string>& files, int threads,
                                 int64_t* bytes) {
  constexpr int64_t kPieceBytes = 1 << 20;
  SystemClock clock;
  const absl::Time start = clock.Now();
  std::atomic<bool> failed{false};
  *bytes = 0;
  for (const std::string& path : files) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) return absl::ErrnoToStatus(errno, path);
    const int64_t size = static_cast<int64_t>(std::filesystem::file_size(path));
    std::atomic<int64_t> next{0};
    const auto read = [&] {
      // On a page: where source and target lie differently in theirs, some processors copy slowly.
      const std::unique_ptr<void, decltype(&std::free)> buffer(
          std::aligned_alloc(4096, kPieceBytes), std::free);
      for (int64_t at = next.fetch_add(kPieceBytes); at < size; at = next.fetch_add(kPieceBytes)) {
        if (pread(fd.get(), buffer.get(), kPieceBytes, at) <= 0) failed = true;
      }
    };
    std::vector<std::jthread> readers;
    for (int t = 0; t < threads; ++t) readers.emplace_back(read);
    readers.clear();
    *bytes += size;
  }
  if (failed) return absl::DataLossError("a file could not be read");
  return absl::ToDoubleSeconds(clock.Now() - start);
}

absl::Status Bench(const Options& o) {
  SystemClock clock;
  const absl::Time start = clock.Now();
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(o.model));
  const absl::Time opened = clock.Now();
  ExecutorOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(o.dtype));
  options.kv_cache_bytes = int64_t{256} << 20;
  options.load_threads = o.threads;
  const auto device = MakeCpuDevice({.threads = o.threads});
  ASSIGN_OR_RETURN(const auto executor,
                   StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr));
  const double load_s = absl::ToDoubleSeconds(clock.Now() - start);
  const Use use = UseNow();
  const ReadCost cost = checkpoint->read_cost();
  int64_t file_bytes = 0;
  ASSIGN_OR_RETURN(const double read_s, ReadFloor(WeightFiles(o.model), o.threads, &file_bytes));
  const double floor_s = read_s * static_cast<double>(cost.bytes) / static_cast<double>(file_bytes);
  const nlohmann::json report = {{"model", o.model},
                                 {"dtype", o.dtype},
                                 {"threads", o.threads},
                                 {"load_s", load_s},
                                 {"open_s", absl::ToDoubleSeconds(opened - start)},
                                 {"user_s", use.user_s},
                                 {"system_s", use.system_s},
                                 {"peak_rss_mb", use.peak_rss_mb},
                                 {"plan_mb", executor->memory().total_bytes() / 1048576.0},
                                 {"read_gb", cost.bytes / 1e9},
                                 {"gb_per_s", cost.bytes / 1e9 / load_s},
                                 {"check_s", absl::ToDoubleSeconds(cost.checking)},
                                 {"floor_s", floor_s},
                                 {"times_floor", load_s / floor_s}};
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("load_bench", "Times the loading of a worker's model on this machine.");
  set.String("model", &o.model, "pregate or HF directory, or GGUF file").Required();
  set.Choice("dtype", &o.dtype, pregate::DTypeChoices(), "of weights and KV");
  set.Int("threads", &o.threads, 1, 1024, "threads", "that load");
  return pregate::BenchMain("load_bench", set, argc, argv, [&] { return pregate::Bench(o); });
}
