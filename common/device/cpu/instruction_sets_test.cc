// Every instruction set that this processor has computes the same bits where its numerics class is
// the same, and nearly the same elsewhere.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "common/device/cpu/kernels.h"
#include "common/device/cpu/weights/kernels.h"
#include "common/device/rounding.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace pregate::cpu {
namespace {

// Restores the dispatch to the best target at the end.
class ScopedTarget {
 public:
  explicit ScopedTarget(int64_t target) { Choose(target); }
  ~ScopedTarget() { Choose(0); }

 private:
  static void Choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

class Inputs {
 public:
  explicit Inputs(uint64_t seed) : random_(seed) {}
  std::vector<float> Floats(size_t n, float sigma) {
    std::normal_distribution<float> normal(0, sigma);
    std::vector<float> values(n);
    for (float& x : values) x = normal(random_);
    return values;
  }

 private:
  std::mt19937_64 random_;
};

void Append(const float* values, size_t n, std::vector<float>& out) {
  out.insert(out.end(), values, values + n);
}

void RunMatmul(Inputs& in, int num_rows, int inputs, WeightFormat format, std::vector<float>& out) {
  const std::vector<float> weights = in.Floats(size_t{32} * inputs, 0.3f);
  std::vector<char> image(MatrixImageBytes(32, inputs, format));
  const Matrix shape = {nullptr, 32, inputs, format};
  PackMatrixRows(weights, 0, shape, image.data());
  if (format == WeightFormat::kBF16) {
    std::vector<uint16_t> bf16(weights.size());
    std::transform(weights.begin(), weights.end(), bf16.begin(), Bf16Bits);
    std::vector<char> of_bf16(image.size());
    PackMatrixRows(bf16, 0, shape, of_bf16.data());
    EXPECT_EQ(of_bf16, image);
  }
  const std::vector<float> x = in.Floats(size_t(num_rows) * inputs, 1);
  std::vector<const float*> rows;
  for (int r = 0; r < num_rows; ++r) rows.push_back(x.data() + int64_t{r} * inputs);
  const auto scratch = std::make_unique<PanelScratch>();
  MatmulPanel(rows.data(), num_rows, image.data(), inputs, format, *scratch);
  Append(scratch->tile, size_t(num_rows) * 32, out);
  std::vector<float> mid(size_t(num_rows) * 16);
  SiluMulPanel(scratch->tile, num_rows, ActType::kF32, mid.data(), 16);
  Append(mid.data(), mid.size(), out);
}

void RunAttention(Inputs& in, int num_rows, int window, KvType type, std::vector<float>& out) {
  constexpr int kHeadDim = 20, kBlocks = 7;
  KvView kv = {nullptr, type, 1, kHeadDim};
  const std::vector<float> values = in.Floats(kBlocks * kv.head_elements(), 1);
  std::vector<char> image(values.size() * ElementBytes(type));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    if (type == KvType::kF32) {
      reinterpret_cast<uint32_t*>(image.data())[i] = bits;
    } else {
      reinterpret_cast<uint16_t*>(image.data())[i] = static_cast<uint16_t>(bits >> 16);
    }
  }
  kv.data = image.data();
  const std::vector<float> q = in.Floats(size_t(num_rows) * kHeadDim, 1);
  std::vector<const float*> queries;
  std::vector<int32_t> first_key, end_key;
  for (int r = 0; r < num_rows; ++r) {
    queries.push_back(q.data() + r * kHeadDim);
    end_key.push_back(kBlocks * 16 - num_rows + 1 + r);
    first_key.push_back(std::max(0, end_key[r] - window));
  }
  const int32_t table[kBlocks] = {3, 0, 6, 1, 5, 2, 4};
  const QueryTile tile = {
      queries.data(), first_key.data(), end_key.data(), num_rows, table, 0, 0.3f};
  const int64_t state = StateFloats(kv.padded_dim());
  std::vector<float> first(num_rows * state), second(num_rows * state);
  std::vector<float> scratch(AttendScratchFloats(num_rows, kv));
  AttendBlocks(kv, tile, 0, 4, first.data(), scratch.data());
  AttendBlocks(kv, tile, 4, kBlocks, second.data(), scratch.data());
  for (int r = 0; r < num_rows; ++r) {
    float y[kHeadDim];
    MergeState(&second[r * state], kv.padded_dim(), &first[r * state]);
    FinishState(&first[r * state], kHeadDim, ActType::kF32, y);
    Append(y, kHeadDim, out);
  }
}

void RunRows(Inputs& in, std::vector<float>& out) {
  for (const int width : {1, 16, 577}) {
    const std::vector<float> x = in.Floats(width, 3), weight = in.Floats(width, 1);
    std::vector<float> y(width);
    RmsNormRow(x.data(), weight.data(), width, 1e-5f, ActType::kF32, y.data());
    Append(y.data(), width, out);
    ActivateRow(RouterActivation::kSilu, x.data(), width, ActType::kF32, y.data());
    Append(y.data(), width, out);
    out.push_back(static_cast<float>(SumExp(x.data(), width, 9.0f)));
  }
}

std::vector<float> RunAll(uint64_t seed) {
  Inputs in(seed);
  std::vector<float> out;
  for (const StepTypes& types : {kF32Types, kBF16Types}) {
    for (const int num_rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 31, 128}) {
      RunMatmul(in, num_rows, 300, types.weights, out);
    }
    for (const int num_rows : {1, 3, 5, 32}) {
      for (const int window : {1000, 50, 20}) RunAttention(in, num_rows, window, types.kv, out);
    }
  }
  RunRows(in, out);
  return out;
}

TEST(InstructionSetsTest, TargetsOfOneNumericsClassComputeTheSameBits) {
  const uint64_t seed = std::random_device()();
  std::map<std::string, std::vector<float>> by_class;
  const std::vector<float> best = RunAll(seed);
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const ScopedTarget scoped(target);
    SCOPED_TRACE(testing::Message() << TargetName() << ", seed " << seed);
    const std::vector<float> y = RunAll(seed);
    const auto& expected = by_class.try_emplace(NumericsClass(), y).first->second;
    EXPECT_EQ(y, expected);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      difference += std::pow(double{y[i]} - best[i], 2);
      norm += std::pow(double{best[i]}, 2);
    }
    EXPECT_LT(std::sqrt(difference / norm), 1e-5);
  }
}

TEST(InstructionSetsTest, DrawsAreTheSameOnEveryTarget) {
  Inputs in(7);
  const std::vector<float> logits = in.Floats(5000, 1);
  std::map<int, int64_t> draws;  // by position
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const ScopedTarget scoped(target);
    for (int position = 0; position < 20; ++position) {
      const int64_t id = GumbelArgMax(logits.data(), 5000, -100.0f, 5000, 0, 11, position);
      EXPECT_EQ(draws.try_emplace(position, id).first->second, id) << TargetName();
    }
  }
}

}  // namespace
}  // namespace pregate::cpu
