// Copies on a stream of their own; order against the operations by events.
#pragma once

#include <deque>
#include <vector>

#include "common/device/cuda/device_runtime.h"
#include "common/device/device.h"

namespace pregate::cuda {

// The copies' source should be pinned (AllocateHost): from other memory CUDA copies with a wait.
class StreamTransferQueue final : public TransferQueue {
 public:
  explicit StreamTransferQueue(CudaRuntime* runtime);
  ~StreamTransferQueue() override;

  uint64_t Mark() override;
  uint64_t Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) override;
  void Await(uint64_t number) override;
  uint64_t num_done() override;
  absl::Duration stalled() override;
  std::vector<TransferSpan> TakeSpans() override;

 private:
  // An event that stands for a mark, by its number.
  struct Numbered {
    uint64_t number;
    Event event;
  };
  struct Wait {
    Event begin, end;
  };
  struct NumberedCopy : Wait {
    uint64_t number;
  };
  void ForgetPassedMarks();
  void CollectWaits();
  Wait TakeTimed();
  // When it was; its events go back to the pool.
  TransferSpan Finish(Wait& events, bool is_wait);

  CudaRuntime& runtime_;
  cudaStream_t stream_ = nullptr;
  uint64_t num_marks_ = 0, num_copies_ = 0, num_done_ = 0;
  std::deque<Numbered> marks_;  // those not yet known to have passed, as below
  std::deque<NumberedCopy> copies_;
  std::deque<Wait> waits_;
  std::vector<Event> free_events_, free_timed_;
  absl::Duration stalled_;
  std::vector<TransferSpan> spans_;
};

}  // namespace pregate::cuda
