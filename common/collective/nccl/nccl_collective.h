// One rank's end of an NCCL group.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "common/collective/nccl/nccl_factory.h"
#include "common/collective/nccl/nccl_status.h"
#include "common/collective/nccl/window_group.h"

namespace pregate {

// The communicator is non-blocking: its calls return at once, so that every wait is ours, with a
// deadline and an eye on Abort. Only the owning thread touches it; Abort sets a flag. With windows
// (NcclOptions) rows and routes travel without it, but for messages that are larger than these.
class NcclCollective final : public Collective {
 public:
  static absl::StatusOr<std::unique_ptr<Collective>> Join(const NcclOptions& options,
                                                          const ncclUniqueId& id, int rank,
                                                          int world_size, absl::Duration timeout,
                                                          std::stop_token stop);
  ~NcclCollective() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  absl::string_view name() const override { return windows_ != nullptr ? "nccl_windows" : "nccl"; }
  bool enqueues() const override { return true; }
  int64_t bytes_sent() const override { return bytes_sent_; }

  absl::Status AllGather(const void* mine, size_t bytes, void* all) override;
  absl::Status AllToAll(const void* send, absl::Span<const int32_t> send_offsets, void* recv,
                        absl::Span<const int32_t> recv_offsets, size_t row_bytes) override;
  absl::Status Wait() override;
  void Abort() override;

 private:
  NcclCollective(const NcclOptions& options, int rank, int world_size)
      : options_(options), rank_(rank), world_size_(world_size) {}

  absl::Status Begin();                        // on the right card, and alive
  absl::Status Fail(const absl::Status& why);  // ends the communicator and its kernels
  void End();
  absl::Status OpenWindows();
  // Polls `done` (true, or why never) until it is true, `timeout` is over, or Abort.
  absl::Status Poll(absl::Duration timeout, const char* doing,
                    const std::function<absl::StatusOr<bool>()>& done);
  absl::Status AwaitCommunicator(absl::Duration timeout, const char* doing);
  absl::Status Group(const std::function<ncclResult_t()>& calls);
  absl::Status GatherByCalls(const void* mine, size_t bytes, void* all);
  absl::Status GatherByWindows(const void* mine, size_t bytes, void* all);
  absl::Status Reserve(size_t bytes);  // staging_ of at least so many

  const NcclOptions options_;
  const int rank_;
  const int world_size_;
  ncclComm_t comm_ = nullptr;
  absl::Status status_;
  std::atomic<bool> aborted_{false};
  std::mutex mutex_;
  WindowGroup* to_leave_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::unique_ptr<WindowGroup> windows_;
  int64_t bytes_sent_ = 0;
  char* staging_ = nullptr;  // device memory for AllGather
  size_t staging_bytes_ = 0;
};

}  // namespace pregate
