// Loads a worker's model on the CPU once and says what it took: seconds, processor time, peak
// memory, and the bytes of the tensors read, beside the time in which as many threads read the same
// number of bytes from the model's files (page cache warm) into a small buffer each. With --images
// card it makes a card's images instead and leaves them in the memory from which they would be
// copied: the host's half of a card's load. Prints one JSON object.
// usage: load_bench --model DIR [--dtype bf16] [--threads 2] [--images cpu|card]
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
#include "common/device/cuda/weights/image.h"
#include "common/device/staged_writer.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/image_loader.h"
#include "expert_service/engine/image_reader.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {
namespace {

struct Options {
  std::string model, dtype = "bf16", images = "cpu";
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

// As many segments as a lane to the card has; nothing is copied from them.
class NoCard final : public Staging {
 public:
  std::byte* Take() override { return segments_[++taken_ % std::size(segments_)].get(); }
  void Copy(void*, size_t) override {}
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  static std::unique_ptr<std::byte[]> Segment() {
    return std::make_unique<std::byte[]>(kStagedSegmentBytes);
  }
  const std::unique_ptr<std::byte[]> segments_[3] = {Segment(), Segment(), Segment()};
  size_t taken_ = 0;
};

// A thread's own.
ImageWriter& CardWriter() {
  static const cuda::PaddedRows layout;
  thread_local StagedImageWriter writer(&layout, std::make_unique<NoCard>());
  return writer;
}

// The images of a worker that holds all experts, where LoadImages would have them for a card.
absl::Status MakeCardImages(const Checkpoint& checkpoint, WeightFormat format, int threads) {
  const ModelSpec& spec = checkpoint.spec();
  const ImageReader reader(&checkpoint);
  void* const nowhere = reinterpret_cast<void*>(uintptr_t{1} << 40);  // of any image
  std::vector<ImageLoad> loads;
  const auto matrix = [&](std::vector<MatrixPart> parts, int inputs) {
    Matrix shape = {nullptr, 0, inputs, format};
    for (const MatrixPart& part : parts) shape.outputs += part.outputs;
    loads.push_back({[&reader, nowhere, parts, shape](ImageWriter&, LoadMeter& meter) {
      return reader.ReadMatrix(parts, shape, CardWriter(), nowhere, meter);
    }});
  };
  const auto unit = [&](const std::string& prefix, int width) {
    if (width == 0) return;
    const UnitShape shape = {width, spec.hidden, format};
    loads.push_back({[&reader, nowhere, prefix, shape](ImageWriter&, LoadMeter& meter) {
      return reader.ReadUnit(prefix, shape, CardWriter(), nowhere, meter);
    }});
  };
  matrix({{"model.embed_tokens.weight", spec.vocab_size}}, spec.hidden);
  if (!spec.tie_embeddings) matrix({{"lm_head.weight", spec.vocab_size}}, spec.hidden);
  for (int l = 0; l < spec.num_layers; ++l) {
    const std::string layer = absl::StrCat("model.layers.", l, ".");
    const std::string attention = layer + "self_attn.";
    matrix({{attention + "q_proj.weight", spec.q_width()},
            {attention + "k_proj.weight", spec.kv_width()},
            {attention + "v_proj.weight", spec.kv_width()}},
           spec.hidden);
    matrix({{attention + "o_proj.weight", spec.hidden}}, spec.q_width());
    unit(layer + (spec.is_moe() ? "mlp.shared." : "mlp."), spec.shared_ffn_width(l));
    for (int e = 0; e < spec.num_experts; ++e) {
      unit(absl::StrCat(layer, "mlp.experts.", e, "."), spec.own_width[l]);
    }
  }
  const auto device = MakeCpuDevice({.threads = 1});
  return LoadImages(*device, {.threads = threads}, absl::MakeSpan(loads), nullptr);
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
  std::unique_ptr<StepExecutor> executor;
  if (o.images == "card") {
    RETURN_IF_ERROR(MakeCardImages(*checkpoint, options.types.weights, o.threads));
  } else {
    ASSIGN_OR_RETURN(executor,
                     StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr));
  }
  const double load_s = absl::ToDoubleSeconds(clock.Now() - start);
  const Use use = UseNow();
  const ReadCost cost = checkpoint->read_cost();
  int64_t file_bytes = 0;
  ASSIGN_OR_RETURN(const double read_s, ReadFloor(WeightFiles(o.model), o.threads, &file_bytes));
  const double floor_s = read_s * static_cast<double>(cost.bytes) / static_cast<double>(file_bytes);
  const nlohmann::json report = {
      {"model", o.model},
      {"dtype", o.dtype},
      {"threads", o.threads},
      {"images", o.images},
      {"load_s", load_s},
      {"open_s", absl::ToDoubleSeconds(opened - start)},
      {"user_s", use.user_s},
      {"system_s", use.system_s},
      {"peak_rss_mb", use.peak_rss_mb},
      {"plan_mb", executor == nullptr ? 0 : executor->memory().total_bytes() / 1048576.0},
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
  set.Choice("images", &o.images, {"cpu", "card"}, "whose are made");
  return pregate::BenchMain("load_bench", set, argc, argv, [&] { return pregate::Bench(o); });
}
