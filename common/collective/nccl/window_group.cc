#include "common/collective/nccl/window_group.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/collective/nccl/nccl_status.h"

namespace pregate {
namespace {

using nccl::Window;
using nccl::WindowMessages;

// Of one source in one exchange: 1,024 rows of 4096 in 16 bit. A larger message takes longer on the
// link than NCCL takes to begin.
constexpr size_t kMessageBytes = size_t{8} << 20;

constexpr int kAbort = 0, kOutcome = 1, kOne = 3, kNumWords = 4;
constexpr int kCount = 0, kEnded = 1, kWhy = 2, kNumCounters = 3;

size_t Padded(size_t bytes) {
  return (bytes + nccl::kWindowUnit - 1) / nccl::kWindowUnit * nccl::kWindowUnit;
}

// A window's layout on the card is NCCL's own, and is the same within 2.28, say.
bool IsVersionBuiltWith() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess && version / 100 == NCCL_VERSION_CODE / 100;
}

// Where ranks do not reach each other's memory NCCL 2.28.3 gives a handle in host memory, and later
// versions give none.
bool IsOnCard(ncclWindow_t window) {
  cudaPointerAttributes attributes;
  return window != nullptr && cudaPointerGetAttributes(&attributes, window) == cudaSuccess &&
         attributes.type == cudaMemoryTypeDevice;
}

}  // namespace

bool WindowGroup::Fits(size_t message_bytes) { return message_bytes <= kMessageBytes; }

WindowGroup::WindowGroup(const Group& group) : group_(group) {
  window_.rank = group.rank;
  window_.world_size = group.world_size;
  window_.message_bytes = kMessageBytes;
  window_.timeout_ns = static_cast<uint64_t>(absl::ToInt64Nanoseconds(group.timeout));
}

WindowGroup::~WindowGroup() {
  if (memory_ != nullptr) ncclMemFree(memory_);
  if (counters_ != nullptr) cudaFree(counters_);
  if (leaving_ != nullptr) cudaStreamDestroy(leaving_);
  if (gather_ != nullptr) cudaFreeHost(gather_);
  if (words_ != nullptr) cudaFreeHost(words_);
}

absl::StatusOr<std::unique_ptr<WindowGroup>> WindowGroup::Open(const Group& group) {
  std::unique_ptr<WindowGroup> windows(new WindowGroup(group));
  const bool can = group.wanted && group.world_size > 1 &&
                   group.world_size <= nccl::kWindowRanksMax && IsVersionBuiltWith();
  // Zeroed before the second vote, hence before any peer writes.
  ASSIGN_OR_RETURN(bool all, group.all_agree(can && windows->Allocate().ok()));
  if (!all) return nullptr;
  ASSIGN_OR_RETURN(all, group.all_agree(windows->Register().ok()));
  if (!all) return nullptr;
  ASSIGN_OR_RETURN(all, group.all_agree(windows->Exchanges().ok()));
  if (!all) return nullptr;
  return windows;
}

absl::Status WindowGroup::Allocate() {
  const size_t bytes = nccl::WindowBytes(group_.world_size, kMessageBytes);
  void* memory = nullptr;
  RETURN_IF_ERROR(NcclStatus(ncclMemAlloc(&memory, bytes), group_.comm, "window"));
  memory_ = static_cast<char*>(memory);
  RETURN_IF_ERROR(CudaStatus(cudaMalloc(&counters_, kNumCounters * sizeof(uint32_t)), "window"));
  RETURN_IF_ERROR(CudaStatus(
      cudaHostAlloc(&words_, kNumWords * sizeof(uint32_t), cudaHostAllocMapped), "window"));
  const size_t gather = kGatherBytes * (1 + group_.world_size);
  RETURN_IF_ERROR(CudaStatus(cudaHostAlloc(&gather_, gather, cudaHostAllocMapped), "window"));
  RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&leaving_, cudaStreamNonBlocking), "window"));
  std::fill_n(words_, kNumWords, 0);
  words_[kOne] = 1;
  window_.abort = words_ + kAbort;
  window_.outcome = words_ + kOutcome;
  window_.count = counters_ + kCount;
  window_.ended = counters_ + kEnded;
  window_.why = counters_ + kWhy;
  RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(memory_, 0, nccl::kWindowRowsAt, leaving_), "window"));
  RETURN_IF_ERROR(CudaStatus(
      cudaMemsetAsync(counters_, 0, kNumCounters * sizeof(uint32_t), leaving_), "window"));
  return CudaStatus(cudaStreamSynchronize(leaving_), "window");
}

absl::Status WindowGroup::Register() {
  ncclWindow_t window = nullptr;
  RETURN_IF_ERROR(
      NcclStatus(ncclCommWindowRegister(group_.comm, memory_,
                                        nccl::WindowBytes(group_.world_size, kMessageBytes),
                                        &window, NCCL_WIN_COLL_SYMMETRIC),
                 group_.comm, "window"));
  RETURN_IF_ERROR(group_.await());
  if (!IsOnCard(window)) return absl::UnavailableError("nccl: no symmetric windows here");
  // Read on the host: the gather's memory is free until the first exchange.
  char** peers = reinterpret_cast<char**>(gather_);
  int* index = reinterpret_cast<int*>(gather_ + kGatherBytes);
  RETURN_IF_ERROR(CudaStatus(
      nccl::LaunchWindowAddresses(window, group_.world_size, peers, index, leaving_), "window"));
  RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(leaving_), "window"));
  // Ranks beyond this one's reach would count from 0 again.
  if (*index != group_.rank) return absl::UnavailableError("nccl: not all ranks reach each other");
  std::copy_n(peers, group_.world_size, window_.peers);
  return absl::OkStatus();
}

// Whether one exchange brings what it should.
absl::Status WindowGroup::Exchanges() {
  const int32_t mine = group_.rank;
  std::vector<int32_t> all(group_.world_size);
  RETURN_IF_ERROR(Gather(&mine, sizeof(mine)));
  RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(group_.stream), "window"));
  RETURN_IF_ERROR(outcome());
  Gathered(sizeof(mine), all.data());
  for (int r = 0; r < group_.world_size; ++r) {
    if (all[r] != r) return absl::InternalError("nccl: a window brings wrong bytes");
  }
  return absl::OkStatus();
}

absl::Status WindowGroup::Exchange(const WindowMessages& messages) {
  return CudaStatus(nccl::LaunchWindowExchange(window_, messages, group_.stream), "exchange");
}

absl::Status WindowGroup::Gather(const void* mine, size_t bytes) {
  std::memcpy(gather_, mine, bytes);
  const size_t padded = Padded(bytes);
  WindowMessages messages;
  for (int r = 0; r < group_.world_size; ++r) {
    messages.of[r] = {gather_, gather_ + kGatherBytes + r * padded, padded, padded};
  }
  return Exchange(messages);
}

void WindowGroup::Gathered(size_t bytes, void* all) const {
  for (int r = 0; r < group_.world_size; ++r) {
    std::memcpy(static_cast<char*>(all) + r * bytes, gather_ + kGatherBytes + r * Padded(bytes),
                bytes);
  }
}

absl::Status WindowGroup::outcome() const {
  const std::string of = absl::StrCat("rank ", window_.outcome[1]);
  switch (window_.outcome[0]) {
    case nccl::kWindowRuns:
      return absl::OkStatus();
    case nccl::kWindowPeerLeft:
      return absl::UnavailableError(absl::StrCat("nccl: ", of, " has left the group"));
    case nccl::kWindowTimeout:
      return absl::DeadlineExceededError(absl::StrCat("nccl: nothing came from ", of, " for ",
                                                      absl::FormatDuration(group_.timeout)));
    default:
      return absl::AbortedError("nccl: this rank aborted the group");
  }
}

void WindowGroup::Leave() {
  const_cast<volatile uint32_t*>(words_)[kAbort] = 1;
  cudaSetDevice(group_.device);
  for (int r = 0; r < group_.world_size; ++r) {
    if (r == group_.rank || window_.peers[r] == nullptr) continue;
    char* left = window_.peers[r] + nccl::kWindowLeftAt + group_.rank * sizeof(uint32_t);
    // An error is the peers' loss of a word, no more: they wait out their time.
    cudaMemcpyAsync(left, words_ + kOne, sizeof(uint32_t), cudaMemcpyDefault, leaving_);
  }
}

}  // namespace pregate
