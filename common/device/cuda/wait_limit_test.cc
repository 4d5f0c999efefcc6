// A wait that cannot end, inside a kernel, ends the kernel with an error that names it. The process has lost the
// card then, so each kernel runs in a process of its own.
#include "common/device/cuda/wait_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>

#include "common/base/status.h"
#include "common/device/cuda/device_runtime.h"
#include "common/device/cuda/stuck_kernels.h"

namespace pregate::cuda {
namespace {

constexpr uint32_t kLimitTicks = 200;  // 0.2 s
constexpr int kLost = 3, kNotLost = 4;

TEST(WaitLimitTest, WordsSayWhoWaitedForWhat) {
  uint64_t stuck[static_cast<int>(WaitingKernel::kCount)] = {};
  EXPECT_EQ(StuckWaitText(stuck), "");
  stuck[static_cast<int>(WaitingKernel::kRingMatmul)] = StuckWord(WaitFor::kFilledSlot, 5, 70'000);
  EXPECT_EQ(
      StuckWaitText(stuck),
      "the ring product's block 5, 70000 waited too long for a slot of its ring to be filled");
  stuck[static_cast<int>(WaitingKernel::kStep)] = StuckWord(WaitFor::kBlocks, 131, 0);
  EXPECT_EQ(
      StuckWaitText(stuck),
      "the step kernel's block 131, 0 waited too long for the other blocks; the ring product's "
      "block 5, 70000 waited too long for a slot of its ring to be filled");
  EXPECT_NE(StuckWord(WaitFor::kBlocks, 0, 0), 0u);
}

class WaitLimitOnACardTest : public testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // a fresh process
    const absl::Status status = CudaRuntime::Create(0).status();
    if (status.ok()) return;
    PREGATE_CHECK(std::getenv("PREGATE_REQUIRE_GPU") == nullptr, "a card is required");
    GTEST_SKIP() << status;
  }
};

// Ends the process: kLost, with the error on stderr, if the kernel lost the card.
[[noreturn]] void RunToItsEnd(const std::function<void(CudaRuntime&)>& enqueue) {
  const std::unique_ptr<CudaRuntime> runtime = *CudaRuntime::Create(0);
  enqueue(*runtime);
  const absl::Status first = runtime->Synchronize(), second = runtime->Synchronize();
  std::fprintf(stderr, "%s\n", first.ToString().c_str());
  std::_Exit(absl::IsDataLoss(first) && absl::IsDataLoss(second) ? kLost : kNotLost);
}

TEST_F(WaitLimitOnACardTest, ABlockThatDoesNotComeEndsTheGrid) {
  EXPECT_EXIT(RunToItsEnd([](CudaRuntime& runtime) {
                const DeviceBuffer counts = *runtime.Allocate(sizeof(BarrierCounts));
                RunStuckBarrier(runtime.stream(), counts.as<BarrierCounts>(), kLimitTicks);
              }),
              testing::ExitedWithCode(kLost),
              "CUDA device 0 is lost to this process: .*: the step kernel's block [0-2], 0 waited "
              "too long for the other blocks");
}
TEST_F(WaitLimitOnACardTest, ASlotThatNobodyFillsEndsTheGrid) {
  EXPECT_EXIT(
      RunToItsEnd([](CudaRuntime& runtime) { RunStuckReader(runtime.stream(), kLimitTicks); }),
      testing::ExitedWithCode(kLost),
      "the ring product's block 0, 0 waited too long for a slot of its ring to be filled");
}
TEST_F(WaitLimitOnACardTest, ASlotThatNobodyReadsEndsTheGrid) {
  EXPECT_EXIT(
      RunToItsEnd([](CudaRuntime& runtime) { RunStuckFiller(runtime.stream(), kLimitTicks); }),
      testing::ExitedWithCode(kLost),
      "the ring product's block 0, 0 waited too long for a slot of its ring to be read");
}

// Also where counts pass 2^32.
TEST_F(WaitLimitOnACardTest, GridsGoOnCountingWhereTheOneBeforeEnded) {
  const std::unique_ptr<CudaRuntime> runtime = *CudaRuntime::Create(0);
  const DeviceBuffer counts = *runtime->Allocate(sizeof(BarrierCounts));
  BarrierCounts now = {0u - 30, 0u - 30};
  ASSERT_EQ(cudaMemcpy(counts.as<void>(), &now, sizeof(now), cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // the stream does not wait for the copy
  for (const int waits : {2, 3, 7}) {
    RunBarriers(runtime->stream(), counts.as<BarrierCounts>(), waits);
    const absl::Status status = runtime->Synchronize();
    ASSERT_TRUE(status.ok()) << status;
  }
  ASSERT_EQ(cudaMemcpy(&now, counts.as<void>(), sizeof(now), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(now.arrived, 4u * 12 - 30);
  EXPECT_EQ(now.before, now.arrived);
}

}  // namespace
}  // namespace pregate::cuda
