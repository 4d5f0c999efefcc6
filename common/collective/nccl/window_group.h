// The windows of a group whose ranks all reach each other's memory, and what the host does with them.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/collective/nccl/window_kernels.h"

namespace pregate {

// One thread calls it; only Leave is thread-safe.
class WindowGroup {
 public:
  struct Group {
    ncclComm_t comm = nullptr;
    int rank = 0;
    int world_size = 0;
    int device = 0;
    cudaStream_t stream = nullptr;
    absl::Duration timeout;  // of one exchange
    bool wanted = false;     // by this rank
    // Waits until `comm` has done what it was asked for.
    std::function<absl::Status()> await;
    // Whether all ranks say yes. Every rank calls it as often.
    std::function<absl::StatusOr<bool>(bool mine)> all_agree;
  };

  // Every rank of the group calls it. Null, on all of them, where one of them cannot or does not
  // want it: ranks that do not reach each other's memory, a card that is full, another version of
  // NCCL than was built with. The status is the group's.
  static absl::StatusOr<std::unique_ptr<WindowGroup>> Open(const Group& group);
  // REQUIRES: nothing of it runs on the stream.
  ~WindowGroup();
  WindowGroup(const WindowGroup&) = delete;

  // Whether rows of so many bytes may travel; whether a message of so many bytes does. The answers
  // are the same at both ends.
  static bool Takes(size_t row_bytes) { return row_bytes % nccl::kWindowUnit == 0; }
  static bool Fits(size_t message_bytes);

  // Enqueues one exchange. REQUIRES: messages that fit, sizes and addresses as window_kernels.h
  // says.
  absl::Status Exchange(const nccl::WindowMessages& messages);
  // Enqueues all[r] = rank r's bytes, for at most kGatherBytes; `gathered` reads it when that is
  // done.
  absl::Status Gather(const void* mine, size_t bytes);
  void Gathered(size_t bytes, void* all) const;
  static constexpr size_t kGatherBytes = 64 << 10;

  // Why an exchange has given up, or OK. It says so once the kernel has ended.
  absl::Status outcome() const;

  // Thread-safe, idempotent, does not wait: what runs here ends, and the peers learn that this rank
  // takes part no more.
  void Leave();

 private:
  explicit WindowGroup(const Group& group);
  absl::Status Allocate();
  absl::Status Register();
  absl::Status Exchanges();

  const Group group_;
  nccl::Window window_;
  char* memory_ = nullptr;        // this rank's window
  uint32_t* counters_ = nullptr;  // on the card
  uint32_t* words_ = nullptr;     // on the host: abort, outcome [2], one
  char* gather_ = nullptr;        // on the host: mine, then all ranks'
  cudaStream_t leaving_ = nullptr;
};

}  // namespace pregate
