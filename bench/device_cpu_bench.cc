// The CPU device at SmolLM2-135M's shapes: decode beside what memory can deliver, prefill beside
// what the multipliers can, attention and sampling in time. Every figure is the best of the rounds,
// and the limits are measured within the same rounds, so that a busy machine spoils both alike.
//
// Usage: device_cpu_bench [threads] [rounds]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "common/device/cpu/cpu_device.h"

namespace pregate::bench {
namespace {

constexpr int kHidden = 576, kWidth = 1536, kVocab = 49152, kLayers = 30;
constexpr int kHeads = 9, kKvHeads = 3, kHeadDim = 64, kRowsMax = 512, kContext = 8192;

struct Figure {
  std::string name, unit;
  double amount = 0;  // a piece, in units: bytes, operations, or 0 for plain time
  std::string limit;  // name of the figure that bounds it
  std::function<void(int piece)> run;
  double best_s = 1e30;
};

class Bench {
 public:
  Bench(int threads, const StepTypes& types)
      : device_(MakeCpuDevice({.threads = threads})), pool_(threads), types_(types) {
    FillBuffers();
    AddLimits();
    AddProducts();
    AddAttention();
    AddSampling();
  }

  void Run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (Figure& f : figures_) {
        for (int piece = 0; piece < kLayers; ++piece) {
          const auto start = std::chrono::steady_clock::now();
          f.run(piece);
          const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
          f.best_s = std::min(f.best_s, took.count());
        }
      }
    }
    std::printf("%s, %s\n", device_->name().c_str(), device_->numerics_id(types_).c_str());
    std::map<std::string, double> rates;
    for (const Figure& f : figures_) {
      const double rate = f.amount / f.best_s / 1e9;
      rates[f.name] = rate;
      std::printf("%-34s %9.3f ms", f.name.c_str(), f.best_s * 1e3);
      if (f.amount > 0) std::printf(" %8.2f G%s", rate, f.unit.c_str());
      if (!f.limit.empty()) std::printf("  %5.1f%%", 100 * rate / rates[f.limit]);
      std::printf("\n");
    }
  }

 private:
  template <class T>
  T* Put(size_t n, const std::function<T(size_t)>& value) {
    buffers_.push_back(*device_->Allocate(n * sizeof(T)));
    T* data = buffers_.back().as<T>();
    for (size_t i = 0; i < n; ++i) data[i] = value(i);
    return data;
  }
  float* PutFloats(size_t n) {
    return Put<float>(n, [this](size_t) { return normal_(random_); });
  }
  int32_t* PutInts(size_t n) {
    return Put<int32_t>(n, [](size_t i) { return static_cast<int32_t>(i); });
  }
  RowCount Rows(int n) {
    return {Put<int32_t>(1, [n](size_t) { return n; }), kRowsMax};
  }
  const void* PutImage(size_t bytes) {
    return Put<uint16_t>(bytes / 2, [](size_t i) { return static_cast<uint16_t>(i % 251); });
  }
  size_t Bytes(size_t elements) const { return elements * (types_ == kBF16Types ? 2 : 4); }

  void FillBuffers() {
    x_ = PutFloats(size_t{kRowsMax} * kWidth);
    out_ = PutFloats(size_t{kRowsMax} * kVocab / 16);
    logits_ = PutFloats(kVocab);
    order_ = PutInts(kRowsMax);
    const UnitShape shape = {kWidth, kHidden, types_.weights};
    for (int l = 0; l < kLayers; ++l) {
      units_.push_back(PutImage(device_->UnitBytes(shape)));
    }
    head_ = PutImage(device_->MatrixBytes(kVocab, kHidden, types_.weights));
  }

  void AddLimits() {
    const size_t bytes = device_->UnitBytes({kWidth, kHidden, types_.weights});
    figures_.push_back({"read floor", "B/s", double(bytes), "",
                        [this, bytes](int i) { sink_ ^= ReadMemory(pool_, units_[i], bytes); }});
    constexpr int64_t kRounds = 100'000;
    const double operations = MultiplyAdd(pool_, kRounds);
    figures_.push_back({"multiply-add peak", "FLOP/s", operations, "",
                        [this](int) { sink_ += MultiplyAdd(pool_, kRounds) > 0; }});
  }

  void AddProducts() {
    for (const int m : {1, 2, 4, 6, 8, 16}) AddFfn(m, false);
    for (const int m : {1, 4}) AddHead(m);
    for (const int m : {64, 128}) AddFfn(m, true);
    const RowCount rows = Rows(kRowsMax);
    const Matrix q = {units_[0], kHidden, kHidden, types_.weights};
    figures_.push_back({"prefill linear 576 x 576, 512 rows", "FLOP/s",
                        2.0 * kRowsMax * kHidden * kHidden, "multiply-add peak", [=, this](int) {
                          device_->Linear(rows, types_.act, x_, q, nullptr, out_);
                        }});
  }

  // A piece is one layer.
  void AddFfn(int m, bool prefill) {
    const RowCount rows = Rows(m);
    const ExpertGroups groups = {Put<int32_t>(2, [m](size_t i) { return i == 0 ? 0 : m; }), order_,
                                 1};
    const double weights = 3.0 * kWidth * kHidden;
    figures_.push_back({absl::StrCat(prefill ? "prefill" : "decode", " ffn, ", m, " rows"),
                        prefill ? "FLOP/s" : "B/s",
                        prefill ? 2 * m * weights : Bytes(static_cast<size_t>(weights)),
                        prefill ? "multiply-add peak" : "read floor", [=, this](int i) {
                          device_->ExpertFfn(rows, types_.act, x_, groups, &units_[i],
                                             {kWidth, kHidden, types_.weights}, out_);
                        }});
  }

  // A piece is a thirtieth of the vocabulary.
  void AddHead(int m) {
    const RowCount rows = Rows(m);
    const int outputs = kVocab / kLayers / 32 * 32;
    const size_t bytes = device_->MatrixBytes(outputs, kHidden, types_.weights);
    figures_.push_back({absl::StrCat("decode lm_head, ", m, " rows"), "B/s", double(bytes),
                        "read floor", [=, this](int i) {
                          const char* part = static_cast<const char*>(head_) + i * bytes;
                          device_->Linear(rows, types_.act, x_,
                                          {part, outputs, kHidden, types_.weights}, nullptr, out_);
                        }});
  }

  void AddAttention() {
    const int blocks = kContext / kKvBlockTokens;
    for (int l = 0; l < 5; ++l) {
      buffers_.push_back(
          *device_->Allocate(device_->KvLayerBytes(blocks, kKvHeads, kHeadDim, types_.kv)));
      kv_.push_back({buffers_.back().as<void>(), blocks, kKvHeads, kHeadDim, types_.kv});
    }
    const int32_t* table = PutInts(blocks);
    const int32_t* slots = Put<int32_t>(kRowsMax, [](size_t) { return 0; });
    const AttentionShape shape = {.num_heads = kHeads,
                                  .num_kv_heads = kKvHeads,
                                  .head_dim = kHeadDim,
                                  .scale = 0.125f,
                                  .act = types_.act};
    const auto add = [&](const std::string& name, int rows, int first, double amount,
                         const std::string& unit, const std::string& limit) {
      const int32_t* positions =
          Put<int32_t>(kRowsMax, [first](size_t i) { return first + static_cast<int32_t>(i); });
      const TokenBatch batch = {Rows(rows), nullptr, positions, slots, table, blocks};
      figures_.push_back({name, unit, amount, limit, [=, this](int i) {
                            device_->Attention(batch, shape, x_, kv_[i % kv_.size()], out_);
                          }});
    };
    add("prefill attention, 0..127", 128, 0, 2.0 * kHeads * kHeadDim * 128 * 129, "FLOP/s",
        "multiply-add peak");
    add("prefill attention, 4096..4127", 32, 4096, 4.0 * kHeads * kHeadDim * 32 * 4112, "FLOP/s",
        "multiply-add peak");
    add("decode attention at 512", 1, 511, double(Bytes(2 * 512 * kKvHeads * kHeadDim)), "B/s",
        "read floor");
    add("decode attention at 8192", 1, 8191, double(Bytes(size_t{2} * 8192 * kKvHeads * kHeadDim)),
        "B/s", "read floor");
  }

  void AddSampling() {
    const auto add = [&](const std::string& name, SamplingParams params, int num_biases = 0,
                         bool masked = false) {
      constexpr size_t kWords = kVocab / 32;
      SampleArgs args;
      args.params = Put<SamplingParams>(1, [params](size_t) { return params; });
      args.seeds = Put<uint64_t>(1, [](size_t) { return 1; });
      args.history.seen = Put<uint32_t>(kWords, [](size_t) { return 1; });  // every 32nd token
      args.history.counts = Put<uint16_t>(kVocab, [](size_t i) { return i % 32 == 0 ? 1 : 0; });
      args.biases = Put<TokenBiases>(1, [&](size_t) {
        TokenBiases biases;
        for (int i = 0; i < num_biases; ++i) biases.of[biases.num++] = {i * 7, -1, -1};
        return biases;
      });
      args.allowed = Put<uint32_t>(kWords, [](size_t) { return 0x55555555; });
      args.masked = Put<int32_t>(1, [masked](size_t) { return masked ? 1 : 0; });
      args.seq_slots = Put<int32_t>(1, [](size_t) { return 0; });
      args.positions = Put<int32_t>(1, [](size_t) { return 7; });
      args.not_finite = Put<uint8_t>(1, [](size_t) { return 0; });
      args.tokens = Put<int32_t>(1, [](size_t) { return 0; });
      const RowCount row = Rows(1);
      figures_.push_back({name, "", 0, "", [this, args, row](int) {
                            device_->SampleTokens(row, kVocab, logits_, args);
                          }});
    };
    for (int i = 0; i < kVocab; ++i) logits_[i] *= 4;
    add("sample greedy", {});
    add("sample temperature 1", {.temperature = 1});
    add("sample temperature 100", {.temperature = 100});
    add("sample top-k 50", {.temperature = 1, .top_k = 50});
    add("sample top-p 0.95", {.temperature = 1, .top_p = 0.95f});
    add("sample greedy, frequency penalty", {.frequency_penalty = 0.5f});
    add("sample greedy, 300 biases", {}, 300);
    add("sample greedy, masked", {}, 0, true);
  }

  std::unique_ptr<ComposedDevice> device_;
  cpu::ThreadPool pool_;
  StepTypes types_;
  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
  std::vector<DeviceBuffer> buffers_;
  std::vector<Figure> figures_;
  float *x_ = nullptr, *out_ = nullptr, *logits_ = nullptr;
  int32_t* order_ = nullptr;
  std::vector<const void*> units_;
  const void* head_ = nullptr;
  std::vector<KvLayer> kv_;
  uint64_t sink_ = 0;
};

}  // namespace
}  // namespace pregate::bench

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  for (const pregate::StepTypes& types : {pregate::kBF16Types, pregate::kF32Types}) {
    pregate::bench::Bench(threads, types).Run(rounds);
  }
}
