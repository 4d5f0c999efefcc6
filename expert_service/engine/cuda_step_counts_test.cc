// What must not happen on a card between a step's start and the end of its sampling: an allocation,
// a wait of the host, work per expert. Counted twice: by the device, and by CUDA itself, which
// refuses all three while a stream is captured.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <vector>

#include "common/device/cuda/cuda_device.h"
#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"

namespace pregate {
namespace {

// One model with a running mix: chunks of two prompts (one emits), a decode token, a scored row.
class CountedEngine {
 public:
  CountedEngine(int num_experts, DType dtype, int32_t expert_slots = 0)
      : num_experts_(num_experts),
        checkpoint_(MakeRandomModel(WithEvenWidths(TinySpec(num_experts)), 5)),
        engine_(*checkpoint_, {.dtype = dtype, .expert_slots = expert_slots}),
        cuda_(dynamic_cast<CudaDevice&>(*engine_.devices[0])) {
    SamplingParams filtered;
    filtered.temperature = 0.8f;
    filtered.top_k = 20;
    filtered.top_p = 0.9f;
    for (int i = 0; i < 4; ++i) {
      slots_[i] = maker_.Open(1 + i, i == 2 ? filtered : SamplingParams(), 77);
    }
    for (int i = 0; i < 3; ++i) {  // warm-up
      RunMix(nullptr);
      RunFew(nullptr);
    }
  }

  // The same shape every time; contents differ.
  StepResult RunMix(const StepProgress& progress) {
    AddRow(slots_[0], 9, Emit::kNone);
    AddRow(slots_[1], 6, Emit::kSample);
    AddRow(slots_[2], 1, Emit::kSample);
    AddRow(slots_[3], 3, Emit::kScore);
    return Run(progress);
  }
  // Few enough rows for a device that runs all layers at once.
  StepResult RunFew(const StepProgress& progress) {
    AddRow(slots_[1], 1, Emit::kSample);
    AddRow(slots_[2], 1, Emit::kSample);
    AddRow(slots_[3], 3, Emit::kScore);
    return Run(progress);
  }
  CudaCounts counts() const { return cuda_.counts(); }
  int64_t num_resident() const { return engine_.executors[0]->residency().units; }
  cudaStream_t stream() const { return static_cast<cudaStream_t>(cuda_.stream()); }

 private:
  StepResult Run(const StepProgress& progress) {
    StepResult result = engine_.executors[0]->Run(maker_.Take(), progress);
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(result.row_errors.empty());
    return result;
  }
  void AddRow(int32_t slot, int count, Emit emit) {
    const int vocab = engine_.spec.vocab_size;
    seed_ += 3;
    Row& row = maker_.AddRow(slot, lengths_[slot], RandomTokens(count, vocab, seed_),
                             RandomTokens(count, num_experts_, seed_ + 1), emit);
    if (emit == Emit::kScore) row.targets = RandomTokens(count, vocab, seed_ + 2);
    lengths_[slot] += count;
  }

  const int num_experts_;
  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  TestEngine engine_;
  CudaDevice& cuda_;
  PlanMaker maker_{TestEngine::kSlots, TestEngine::kBlocks, 3};
  int32_t slots_[4] = {};
  std::map<int32_t, int32_t> lengths_;
  uint32_t seed_ = 0;
};

class CudaStepCountsTest : public testing::TestWithParam<DType> {};

// A mix of many rows, then one of few.
using RunStep = StepResult (CountedEngine::*)(const StepProgress&);
constexpr RunStep kSteps[] = {&CountedEngine::RunMix, &CountedEngine::RunFew};

TEST_P(CudaStepCountsTest, AStepAllocatesNothingAndWaitsOnceAfterSampling) {
  CountedEngine engine(4, GetParam());
  for (const RunStep run : kSteps) {
    const CudaCounts before = engine.counts();
    CudaCounts sampled;
    (engine.*run)([&] {
      sampled = engine.counts();
      return true;
    });
    const CudaCounts after = engine.counts();
    EXPECT_EQ(sampled.allocations, before.allocations);
    EXPECT_EQ(sampled.synchronizations, before.synchronizations);
    EXPECT_GT(sampled.launches, before.launches);
    EXPECT_EQ(after.allocations, before.allocations);
    EXPECT_EQ(after.synchronizations, before.synchronizations + 1) << "Collect's";
  }
}

TEST_P(CudaStepCountsTest, LaunchesDoNotDependOnTheNumberOfExperts) {
  for (const RunStep run : kSteps) {
    std::optional<int64_t> launches;
    for (const int num_experts : {2, 8, 5}) {
      CountedEngine engine(num_experts, GetParam());
      const CudaCounts before = engine.counts();
      (engine.*run)(nullptr);
      const int64_t of_step = engine.counts().launches - before.launches;
      if (!launches) launches = of_step;
      EXPECT_EQ(of_step, *launches) << num_experts << " experts";
    }
  }
}

// In bf16: else the two tests above say nothing about layers that run at once.
TEST_P(CudaStepCountsTest, LayersOfFewRowsAreOneLaunch) {
  CountedEngine engine(4, GetParam());
  std::vector<int64_t> launches;
  for (const RunStep run : kSteps) {
    const CudaCounts before = engine.counts();
    (engine.*run)(nullptr);
    launches.push_back(engine.counts().launches - before.launches);
  }
  constexpr int kLayersAndMore = 10;  // launches of two layers, at least
  EXPECT_EQ(launches[1] + kLayersAndMore < launches[0], GetParam() == DType::kBF16)
      << launches[0] << " with many rows, " << launches[1] << " with few";
}

TEST_P(CudaStepCountsTest, ExpertsInSlotsTakeTheLaunchesOfThoseThatNeverMove) {
  constexpr int kExperts = 4;
  CountedEngine whole(kExperts, GetParam()), slotted(kExperts, GetParam(), kExperts);
  ASSERT_EQ(slotted.num_resident(), whole.num_resident()) << "the warm-up names every expert";
  for (const RunStep run : kSteps) {
    std::vector<int64_t> launches;
    for (CountedEngine* engine : {&whole, &slotted}) {
      (engine->*run)(nullptr);  // whose scratch may still grow
      const CudaCounts before = engine->counts();
      (engine->*run)(nullptr);
      const CudaCounts after = engine->counts();
      launches.push_back(after.launches - before.launches);
      EXPECT_EQ(after.allocations, before.allocations);
      EXPECT_EQ(after.synchronizations, before.synchronizations + 1);
    }
    EXPECT_EQ(launches[1], launches[0]);
  }
}

// From the embedding's end to the last chunk of emitting rows.
TEST_P(CudaStepCountsTest, CudaItselfCanCaptureWhatAStepEnqueues) {
  for (const RunStep run : kSteps) {
    std::optional<size_t> nodes;
    for (const int num_experts : {2, 8}) {
      CountedEngine engine(num_experts, GetParam());
      int calls = 0, call = 0;
      (engine.*run)([&] { return ++calls > 0; });
      ASSERT_GT(calls, 2);
      cudaGraph_t graph = nullptr;
      cudaError_t begin = cudaErrorUnknown, end = cudaErrorUnknown;
      (engine.*run)([&] {
        ++call;
        if (call == 1) begin = cudaStreamBeginCapture(engine.stream(), cudaStreamCaptureModeGlobal);
        if (call == calls) end = cudaStreamEndCapture(engine.stream(), &graph);
        return true;
      });
      ASSERT_EQ(begin, cudaSuccess) << cudaGetErrorString(begin);
      ASSERT_EQ(end, cudaSuccess) << cudaGetErrorString(end);
      size_t count = 0;
      ASSERT_EQ(cudaGraphGetNodes(graph, nullptr, &count), cudaSuccess);
      EXPECT_GT(count, 5u);
      if (!nodes) nodes = count;
      EXPECT_EQ(count, *nodes) << num_experts << " experts";
      cudaGraphDestroy(graph);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, CudaStepCountsTest, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

}  // namespace
}  // namespace pregate
