#include "common/device/cuda/device_runtime.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/device/cuda/cuda_status.h"
#include "common/device/steady_time.h"

namespace pregate::cuda {

absl::StatusOr<std::unique_ptr<CudaRuntime>> CudaRuntime::Create(int ordinal) {
  int count = 0;
  RETURN_IF_ERROR(CudaStatus(cudaGetDeviceCount(&count), "cudaGetDeviceCount"));
  if (ordinal < 0 || ordinal >= count) {
    return absl::UnavailableError(
        absl::StrCat("CUDA device ", ordinal, ": this machine has ", count));
  }
  RETURN_IF_ERROR(CudaStatus(cudaSetDevice(ordinal), "cudaSetDevice"));
  cudaDeviceProp properties;
  RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
  std::unique_ptr<CudaRuntime> runtime(new CudaRuntime(ordinal, properties));
  RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&runtime->stream_.handle, cudaStreamNonBlocking),
                 "cudaStreamCreate"));
  const size_t stuck_bytes = static_cast<size_t>(WaitingKernel::kCount) * sizeof(uint64_t);
  ASSIGN_OR_RETURN(runtime->stuck_, runtime->AllocateHost(stuck_bytes));
  std::memset(runtime->stuck_.as<void>(), 0, stuck_bytes);
  runtime->stream_.stuck = runtime->stuck_.as<uint64_t>();
  return runtime;
}

CudaRuntime::~CudaRuntime() {
  Use();
  if (stream_.handle == nullptr) return;
  cudaStreamSynchronize(stream_.handle);
  cudaStreamDestroy(stream_.handle);
}

void CudaRuntime::Use() {
  int current = -1;
  if (cudaGetDevice(&current) != cudaSuccess || current != ordinal_) {
    Note(cudaSetDevice(ordinal_), "cudaSetDevice");
  }
}

absl::StatusOr<DeviceMemory> CudaRuntime::Memory() {
  Use();
  size_t free = 0, total = 0;
  RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  return DeviceMemory{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

absl::StatusOr<DeviceBuffer> CudaRuntime::Allocate(size_t bytes) {
  Use();
  ++counts_.allocations;
  void* data = nullptr;
  const size_t taken = std::max<size_t>(bytes, 1);
  if (const cudaError_t error = cudaMalloc(&data, taken); error != cudaSuccess) {
    cudaGetLastError();  // not a sticky one
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return CudaStatus(
        error, absl::StrCat("cudaMalloc of ", bytes, " bytes (", free, " of ", total, " free)"));
  }
  DeviceBuffer buffer(data, bytes, [](void* p) { cudaFree(p); });
  // Waited for: a transfer queue's copies are not ordered against this stream.
  RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(data, 0, taken, stream_.handle), "cudaMemset"));
  RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_.handle), "zeroing memory"));
  return buffer;
}

absl::StatusOr<DeviceBuffer> CudaRuntime::AllocateHost(size_t bytes) {
  Use();
  ++counts_.allocations;
  void* data = nullptr;
  if (const cudaError_t error = cudaHostAlloc(&data, std::max<size_t>(bytes, 1), 0);
      error != cudaSuccess) {
    cudaGetLastError();
    return CudaStatus(error, absl::StrCat("cudaHostAlloc of ", bytes, " bytes"));
  }
  return DeviceBuffer(data, bytes, [](void* p) { cudaFreeHost(p); });
}

absl::Status CudaRuntime::Synchronize() {
  Use();
  ++counts_.synchronizations;
  Note(std::exchange(stream_.error, cudaSuccess), "kernel launch");
  const absl::Status waited = CudaStatus(cudaStreamSynchronize(stream_.handle), "an operation");
  Note(waited);
  const absl::Status first = std::exchange(status_, absl::OkStatus());
  return absl::IsDataLoss(waited) ? Lost(waited) : first;
}

// Whatever else has failed since did so because of it.
absl::Status CudaRuntime::Lost(const absl::Status& status) const {
  const std::string stuck = StuckWaitText(stream_.stuck);
  return absl::DataLossError(absl::StrCat("CUDA device ", ordinal_, " is lost to this process: ",
                                          status.message(), stuck.empty() ? "" : ": ", stuck));
}

void CudaRuntime::WaitFor(cudaEvent_t event) {
  ++counts_.synchronizations;
  Note(cudaEventSynchronize(event), "cudaEventSynchronize");
}

void CudaRuntime::Note(absl::Status status) { status_.Update(status); }
void CudaRuntime::Note(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Note(CudaStatus(error, what));
}
void CudaRuntime::NoteMatmul(absl::Status status) {
  ++stream_.num_launches;
  Note(std::move(status));
}

void CudaRuntime::BeginMoments() {
  while (moments_.size() < kMomentsMax) moments_.emplace_back(/*timed=*/true);
  NoteMoment(0);
  moment_0_ = SteadyNow();  // nothing is enqueued between two steps, so the card is there at once
}

void CudaRuntime::NoteMoment(int moment) {
  Use();
  Note(cudaEventRecord(moments_[moment].get(), stream_.handle), "cudaEventRecord");
}

// No step fails because of its timeline.
absl::Time CudaRuntime::TimeOf(const Event& event) {
  float ms = 0;
  if (moments_.empty() ||
      cudaEventElapsedTime(&ms, moments_[0].get(), event.get()) != cudaSuccess) {
    cudaGetLastError();
  }
  return moment_0_ + absl::Milliseconds(ms);
}

CudaCounts CudaRuntime::counts() const {
  CudaCounts counts = counts_;
  counts.launches = stream_.num_launches;
  return counts;
}

Event::Event(bool timed, bool sleeps) {
  const cudaError_t error =
      cudaEventCreateWithFlags(&event_, (timed ? cudaEventDefault : cudaEventDisableTiming) |
                                            (sleeps ? cudaEventBlockingSync : 0u));
  PREGATE_CHECK(error == cudaSuccess, "", CudaStatus(error, "cudaEventCreate").ToString());
}
Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}
bool Event::Passed() const { return cudaEventQuery(event_) != cudaErrorNotReady; }

}  // namespace pregate::cuda
