// One rank a card, as threads of one process: on one card sends to itself, through NCCL and through
// a window.
#include <algorithm>

#include "common/collective/collective_contract.h"
#include "common/collective/nccl/nccl_factory.h"

namespace pregate {
namespace {

constexpr int kRanksMax = 4;

class NcclWorld final : public CollectiveWorld {
 public:
  NcclWorld(int world_size, absl::Duration timeout, bool windows) {
    for (int rank = 0; rank < world_size; ++rank) {
      cudaStream_t stream = nullptr;
      EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
      EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
      streams_.push_back(stream);
      factories_.push_back(MakeNcclFactory(
          {.device = rank, .stream = stream, .operation_timeout = timeout, .windows = windows}));
    }
  }
  ~NcclWorld() override {
    for (cudaStream_t stream : streams_) cudaStreamDestroy(stream);
  }

  CollectiveFactory& factory(int rank) override { return *factories_[rank]; }
  std::shared_ptr<char> Allocate(int rank, size_t bytes) override {
    void* memory = nullptr;
    EXPECT_EQ(cudaSetDevice(rank), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&memory, std::max<size_t>(bytes, 1)), cudaSuccess);
    return std::shared_ptr<char>(static_cast<char*>(memory), [](char* data) { cudaFree(data); });
  }
  void Put(char* to, const std::vector<char>& bytes) override {
    EXPECT_EQ(cudaMemcpy(to, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<char> Get(const char* from, size_t bytes) override {
    std::vector<char> out(bytes);
    EXPECT_EQ(cudaMemcpy(out.data(), from, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }

 private:
  std::vector<cudaStream_t> streams_;
  std::vector<std::unique_ptr<CollectiveFactory>> factories_;
};

CollectiveFamily Family(const std::string& name, bool windows, int cards) {
  return {.name = name,
          .make =
              [windows](int world_size, absl::Duration timeout) {
                return std::make_unique<NcclWorld>(world_size, timeout, windows);
              },
          .world_size_max = std::clamp(cards, 1, kRanksMax),
          .refuses_used_rendezvous = false,
          .skip_because = cards > 0 ? "" : "needs a card"};
}

}  // namespace

std::vector<CollectiveFamily> CollectivesUnderTest() {
  int cards = 0;
  if (cudaGetDeviceCount(&cards) != cudaSuccess) cards = 0;
  return {Family("nccl", false, cards), Family("nccl_windows", true, cards)};
}

}  // namespace pregate
