// What only NCCL does: an exchange captured in a CUDA graph once and replayed over other data.
#include <cuda_runtime_api.h>

#include "common/collective/nccl/nccl_factory.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

constexpr int kRows = 33;
constexpr size_t kRowBytes = 1152;
constexpr size_t kBytes = kRows * kRowBytes;

class NcclGraphTest : public testing::Test {
 protected:
  void SetUp() override {
    int cards = 0;
    if (cudaGetDeviceCount(&cards) != cudaSuccess || cards == 0) GTEST_SKIP() << "needs a card";
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&send_, kBytes), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&recv_, kBytes), cudaSuccess);
    factory_ = MakeNcclFactory({.stream = stream_});
    auto group = factory_->Join(*factory_->MakeRendezvous(), 0, 1, absl::Seconds(60), {});
    ASSERT_TRUE(group.ok()) << group.status();
    group_ = *std::move(group);
  }
  void TearDown() override {
    group_.reset();
    cudaFree(send_);
    cudaFree(recv_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  absl::Status Exchange() {
    const std::vector<int32_t> offsets = {0, kRows};
    return group_->AllToAll(send_, offsets, recv_, offsets, kRowBytes);
  }
  void Fill(char value) {
    EXPECT_EQ(cudaMemset(recv_, 0, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMemset(send_, value, kBytes), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  std::string Received() {
    std::string bytes(kBytes, '?');
    EXPECT_EQ(cudaMemcpy(bytes.data(), recv_, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return bytes;
  }

  cudaStream_t stream_ = nullptr;
  void* send_ = nullptr;
  void* recv_ = nullptr;
  std::unique_ptr<CollectiveFactory> factory_;
  std::unique_ptr<Collective> group_;
};

TEST_F(NcclGraphTest, ACapturedExchangeReplaysOverOtherData) {
  Fill('w');
  ASSERT_EQ(Exchange(), absl::OkStatus());  // connects
  ASSERT_EQ(group_->Wait(), absl::OkStatus());
  EXPECT_TRUE(Received() == std::string(kBytes, 'w'));

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replayable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  const absl::Status captured = Exchange();
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess) << captured;
  ASSERT_EQ(captured, absl::OkStatus());
  ASSERT_EQ(cudaGraphInstantiate(&replayable, graph, 0), cudaSuccess);
  for (const char value : {'a', 'b', 'c'}) {
    Fill(value);
    ASSERT_EQ(cudaGraphLaunch(replayable, stream_), cudaSuccess);
    ASSERT_EQ(group_->Wait(), absl::OkStatus());
    EXPECT_TRUE(Received() == std::string(kBytes, value)) << value;
  }
  EXPECT_EQ(cudaGraphExecDestroy(replayable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

}  // namespace
}  // namespace pregate
