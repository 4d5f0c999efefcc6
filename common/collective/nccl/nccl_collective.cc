#include "common/collective/nccl/nccl_collective.h"

#include <algorithm>
#include <thread>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/collective/exchange_check.h"

namespace pregate {
namespace {

constexpr size_t kStagingBytesMin = 64 << 10;  // a step's routes fit: later steps allocate nothing

}  // namespace

absl::StatusOr<std::unique_ptr<Collective>> NcclCollective::Join(const NcclOptions& options,
                                                                 const ncclUniqueId& id, int rank,
                                                                 int world_size,
                                                                 absl::Duration timeout,
                                                                 std::stop_token stop) {
  std::unique_ptr<NcclCollective> group(new NcclCollective(options, rank, world_size));
  const std::stop_callback on_stop(stop, [end = group.get()] { end->Abort(); });
  RETURN_IF_ERROR(group->Begin());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const absl::Status begun = NcclStatus(
      ncclCommInitRankConfig(&group->comm_, world_size, id, rank, &config), nullptr, "join");
  if (!begun.ok()) return group->Fail(begun);
  RETURN_IF_ERROR(group->AwaitCommunicator(timeout, "join"));
  RETURN_IF_ERROR(group->Reserve(kStagingBytesMin));
  return group;
}

// A group that ends with work enqueued aborts it: peers may never come for it.
NcclCollective::~NcclCollective() {
  cudaSetDevice(options_.device);
  if (comm_ != nullptr) ncclCommAbort(comm_);
  if (staging_ != nullptr) cudaFree(staging_);
}

absl::Status NcclCollective::Begin() {
  if (!status_.ok()) return status_;
  if (aborted_) return Fail(absl::AbortedError("nccl: this rank aborted the group"));
  return CudaStatus(cudaSetDevice(options_.device), "set device");
}

absl::Status NcclCollective::Fail(const absl::Status& why) {
  if (!status_.ok()) return status_;
  status_ = why;
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
  return status_;
}

absl::Status NcclCollective::Poll(absl::Duration timeout, const char* doing,
                                  const std::function<absl::StatusOr<bool>()>& done) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    const absl::StatusOr<bool> now = done();
    if (!now.ok()) return Fail(now.status());
    if (*now) return absl::OkStatus();
    if (aborted_) return Fail(absl::AbortedError("nccl: this rank aborted the group"));
    if (absl::Now() > deadline) {
      return Fail(absl::DeadlineExceededError(
          absl::StrCat("nccl: ", doing, ": not done after ", absl::FormatDuration(timeout))));
    }
    std::this_thread::yield();
  }
}

absl::Status NcclCollective::AwaitCommunicator(absl::Duration timeout, const char* doing) {
  return Poll(timeout, doing, [&]() -> absl::StatusOr<bool> {
    ncclResult_t state = ncclSuccess;
    RETURN_IF_ERROR(NcclStatus(ncclCommGetAsyncError(comm_, &state), comm_, doing));
    RETURN_IF_ERROR(NcclStatus(state, comm_, doing));
    return state != ncclInProgress;
  });
}

absl::Status NcclCollective::Wait() {
  RETURN_IF_ERROR(Begin());
  return Poll(options_.operation_timeout, "wait", [&]() -> absl::StatusOr<bool> {
    ncclResult_t state = ncclSuccess;
    RETURN_IF_ERROR(NcclStatus(ncclCommGetAsyncError(comm_, &state), comm_, "wait"));
    RETURN_IF_ERROR(NcclStatus(state, comm_, "wait"));
    const cudaError_t stream = cudaStreamQuery(options_.stream);
    if (stream == cudaErrorNotReady) return false;
    RETURN_IF_ERROR(CudaStatus(stream, "wait"));
    return true;
  });
}

absl::Status NcclCollective::Group(const std::function<ncclResult_t()>& calls) {
  ncclResult_t result = ncclGroupStart();
  if (result == ncclSuccess) result = calls();
  const ncclResult_t end = ncclGroupEnd();  // also after a failed call, or the thread stays in it
  if (result == ncclSuccess || result == ncclInProgress) result = end;
  if (absl::Status bad = NcclStatus(result, comm_, "enqueue"); !bad.ok()) return Fail(bad);
  return AwaitCommunicator(options_.operation_timeout, "enqueue");
}

absl::Status NcclCollective::Reserve(size_t bytes) {
  if (bytes <= staging_bytes_) return absl::OkStatus();
  if (staging_ != nullptr) cudaFree(staging_);
  staging_ = nullptr;
  staging_bytes_ = 0;
  RETURN_IF_ERROR(CudaStatus(cudaMalloc(&staging_, bytes), "staging"));
  staging_bytes_ = bytes;
  return absl::OkStatus();
}

absl::Status NcclCollective::AllGather(const void* mine, size_t bytes, void* all) {
  RETURN_IF_ERROR(Begin());
  if (bytes == 0) return absl::OkStatus();
  if (absl::Status bad = Reserve(bytes * world_size_); !bad.ok()) return Fail(bad);
  char* own = staging_ + rank_ * bytes;
  if (absl::Status bad = CudaStatus(
          cudaMemcpyAsync(own, mine, bytes, cudaMemcpyHostToDevice, options_.stream), "gather in");
      !bad.ok()) {
    return Fail(bad);
  }
  bytes_sent_ += int64_t(bytes) * (world_size_ - 1);
  RETURN_IF_ERROR(
      Group([&] { return ncclAllGather(own, staging_, bytes, ncclInt8, comm_, options_.stream); }));
  RETURN_IF_ERROR(Wait());  // before the copy, which blocks the host when memory is pageable
  const cudaError_t copied =
      cudaMemcpyAsync(all, staging_, bytes * world_size_, cudaMemcpyDeviceToHost, options_.stream);
  if (absl::Status bad = CudaStatus(copied, "gather out"); !bad.ok()) return Fail(bad);
  return Wait();
}

absl::Status NcclCollective::AllToAll(const void* send, absl::Span<const int32_t> send_offsets,
                                      void* recv, absl::Span<const int32_t> recv_offsets,
                                      size_t row_bytes) {
  RETURN_IF_ERROR(Begin());
  if (absl::Status bad = CheckOffsets(rank_, world_size_, send_offsets, recv_offsets); !bad.ok()) {
    return Fail(bad);
  }
  bytes_sent_ += RemoteRows(rank_, send_offsets) * int64_t(row_bytes);
  const auto bytes = [row_bytes](absl::Span<const int32_t> offsets, int peer) {
    return (offsets[peer + 1] - offsets[peer]) * row_bytes;
  };
  return Group([&] {
    ncclResult_t result = ncclSuccess;
    for (int peer = 0; peer < world_size_ && result == ncclSuccess; ++peer) {
      if (bytes(send_offsets, peer) > 0) {
        result = ncclSend(static_cast<const char*>(send) + send_offsets[peer] * row_bytes,
                          bytes(send_offsets, peer), ncclInt8, peer, comm_, options_.stream);
      }
      if (result == ncclSuccess && bytes(recv_offsets, peer) > 0) {
        result = ncclRecv(static_cast<char*>(recv) + recv_offsets[peer] * row_bytes,
                          bytes(recv_offsets, peer), ncclInt8, peer, comm_, options_.stream);
      }
    }
    return result;
  });
}

}  // namespace pregate
