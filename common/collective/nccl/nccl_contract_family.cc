// World size 1, all that one card allows: sends to itself through NCCL.
#include "common/collective/collective_contract.h"
#include "common/collective/nccl/nccl_factory.h"

namespace pregate {
namespace {

class NcclWorld final : public CollectiveWorld {
 public:
  explicit NcclWorld(absl::Duration timeout) {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    factory_ = MakeNcclFactory({.stream = stream_, .operation_timeout = timeout});
  }
  ~NcclWorld() override { cudaStreamDestroy(stream_); }

  CollectiveFactory& factory(int rank) override { return *factory_; }
  std::shared_ptr<char> Allocate(int rank, size_t bytes) override {
    void* memory = nullptr;
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
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CollectiveFactory> factory_;
};

}  // namespace

std::vector<CollectiveFamily> CollectivesUnderTest() {
  int cards = 0;
  const bool has_card = cudaGetDeviceCount(&cards) == cudaSuccess && cards > 0;
  return {{.name = "nccl",
           .make = [](int, absl::Duration timeout) { return std::make_unique<NcclWorld>(timeout); },
           .world_size_max = 1,
           .refuses_used_rendezvous = false,
           .skip_because = has_card ? "" : "needs a card"}};
}

}  // namespace pregate
