#include "common/collective/nccl/nccl_collective.h"

#include <algorithm>
#include <thread>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/collective/exchange_check.h"

namespace pregate {
namespace {

constexpr size_t kStagingBytesMin = 64 << 10;  // a step's routes fit: later steps allocate nothing
constexpr absl::Duration kLeaveTimeout =
    absl::Seconds(2);  // what runs looks every few microseconds

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
  RETURN_IF_ERROR(group->OpenWindows());
  return group;
}

NcclCollective::~NcclCollective() {
  cudaSetDevice(options_.device);
  End();
  if (staging_ != nullptr) cudaFree(staging_);
}

// A group that ends with work enqueued aborts it: peers may never come for it.
void NcclCollective::End() {
  {
    std::lock_guard lock(mutex_);
    if (to_leave_ != nullptr) to_leave_->Leave();
    to_leave_ = nullptr;
  }
  if (windows_ != nullptr) {  // its kernels look at what Leave has written
    const absl::Time deadline = absl::Now() + kLeaveTimeout;
    while (cudaStreamQuery(options_.stream) == cudaErrorNotReady && absl::Now() < deadline) {
      std::this_thread::yield();
    }
  }
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
  windows_ = nullptr;
}

absl::Status NcclCollective::OpenWindows() {
  const auto all_agree = [this](bool mine) -> absl::StatusOr<bool> {
    std::vector<uint8_t> all(world_size_);
    const uint8_t vote = mine ? 1 : 0;
    RETURN_IF_ERROR(GatherByCalls(&vote, 1, all.data()));
    return std::all_of(all.begin(), all.end(), [](uint8_t yes) { return yes == 1; });
  };
  const auto await = [this] { return AwaitCommunicator(options_.operation_timeout, "window"); };
  ASSIGN_OR_RETURN(windows_, WindowGroup::Open({.comm = comm_,
                                                .rank = rank_,
                                                .world_size = world_size_,
                                                .device = options_.device,
                                                .stream = options_.stream,
                                                .timeout = options_.operation_timeout,
                                                .wanted = options_.windows,
                                                .await = await,
                                                .all_agree = all_agree}));
  bytes_sent_ = 0;  // votes are no payload
  std::lock_guard lock(mutex_);
  to_leave_ = windows_.get();
  if (aborted_ && to_leave_ != nullptr) to_leave_->Leave();
  return absl::OkStatus();
}

void NcclCollective::Abort() {
  std::lock_guard lock(mutex_);
  if (aborted_.exchange(true)) return;
  if (to_leave_ != nullptr) to_leave_->Leave();
}

absl::Status NcclCollective::Begin() {
  if (!status_.ok()) return status_;
  if (aborted_) return Fail(absl::AbortedError("nccl: this rank aborted the group"));
  return CudaStatus(cudaSetDevice(options_.device), "set device");
}

absl::Status NcclCollective::Fail(const absl::Status& why) {
  if (!status_.ok()) return status_;
  status_ = why;
  End();
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
    if (windows_ != nullptr) RETURN_IF_ERROR(windows_->outcome());
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
  if (windows_ != nullptr && bytes <= WindowGroup::kGatherBytes) {
    return GatherByWindows(mine, bytes, all);
  }
  return GatherByCalls(mine, bytes, all);
}

absl::Status NcclCollective::GatherByWindows(const void* mine, size_t bytes, void* all) {
  bytes_sent_ += int64_t(bytes) * (world_size_ - 1);
  if (absl::Status bad = windows_->Gather(mine, bytes); !bad.ok()) return Fail(bad);
  RETURN_IF_ERROR(Wait());
  windows_->Gathered(bytes, all);
  return absl::OkStatus();
}

absl::Status NcclCollective::GatherByCalls(const void* mine, size_t bytes, void* all) {
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
  const auto message = [&](int peer) -> nccl::WindowMessage {
    return {static_cast<const char*>(send) + send_offsets[peer] * row_bytes,
            static_cast<char*>(recv) + recv_offsets[peer] * row_bytes,
            (send_offsets[peer + 1] - send_offsets[peer]) * row_bytes,
            (recv_offsets[peer + 1] - recv_offsets[peer]) * row_bytes};
  };
  // Both ends of a message know its size, so they agree on its way.
  const bool has_windows = windows_ != nullptr && WindowGroup::Takes(row_bytes);
  const auto is_called = [&](int peer, size_t bytes) {
    return bytes > 0 && !(has_windows && (peer == rank_ || WindowGroup::Fits(bytes)));
  };
  bool has_calls = false;
  nccl::WindowMessages by_window;
  for (int peer = 0; peer < world_size_; ++peer) {
    nccl::WindowMessage m = message(peer);
    has_calls |= is_called(peer, m.send_bytes) || is_called(peer, m.recv_bytes);
    if (!has_windows) continue;
    if (is_called(peer, m.send_bytes)) m.send_bytes = 0;
    if (is_called(peer, m.recv_bytes)) m.recv_bytes = 0;
    by_window.of[peer] = m;
  }
  if (has_windows) {
    if (absl::Status bad = windows_->Exchange(by_window); !bad.ok()) return Fail(bad);
  }
  if (!has_calls) return absl::OkStatus();
  return Group([&] {
    ncclResult_t result = ncclSuccess;
    for (int peer = 0; peer < world_size_ && result == ncclSuccess; ++peer) {
      const nccl::WindowMessage m = message(peer);
      if (is_called(peer, m.send_bytes)) {
        result = ncclSend(m.send, m.send_bytes, ncclInt8, peer, comm_, options_.stream);
      }
      if (result == ncclSuccess && is_called(peer, m.recv_bytes)) {
        result = ncclRecv(m.recv, m.recv_bytes, ncclInt8, peer, comm_, options_.stream);
      }
    }
    return result;
  });
}

}  // namespace pregate
