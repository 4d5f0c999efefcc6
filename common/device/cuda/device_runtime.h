// The CUDA runtime as one device uses it: its stream, the counts of what must not happen within a
// step, and the first error. Every allocation, synchronisation and event of the device goes
// through here; kernel launches go through launch.cuh, which counts into stream().
#pragma once

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/device/cuda/cuda_device.h"
#include "common/device/cuda/kernels.h"
#include "common/device/device.h"

namespace pregate::cuda {

// Owns one event.
class Event {
 public:
  // A host that waits for one that `sleeps` leaves its core to others.
  explicit Event(bool timed, bool sleeps = false);
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event(const Event&) = delete;
  ~Event();
  cudaEvent_t get() const { return event_; }
  bool Passed() const;  // does not wait

 private:
  cudaEvent_t event_ = nullptr;
};

// Not thread-safe, but may move between threads.
class CudaRuntime {
 public:
  // UNAVAILABLE, with CUDA's text, where there is no such card.
  static absl::StatusOr<std::unique_ptr<CudaRuntime>> Create(int ordinal);
  ~CudaRuntime();  // waits for the stream

  // Makes the card current in this thread. Called by every operation.
  void Use();
  Stream& stream() { return stream_; }
  cudaStream_t handle() const { return stream_.handle; }
  int ordinal() const { return ordinal_; }
  const cudaDeviceProp& properties() const { return properties_; }

  absl::StatusOr<DeviceMemory> Memory();
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes);      // zeroed; waits for the stream
  absl::StatusOr<DeviceBuffer> AllocateHost(size_t bytes);  // pinned
  // Waits for the stream and returns the first error since the last call; DATA_LOSS, with what is known of the
  // reason, where the process has lost the card.
  absl::Status Synchronize();
  void WaitFor(cudaEvent_t event);  // on the host; counted

  // Keeps the first error for Synchronize.
  void Note(absl::Status status);
  void Note(cudaError_t error, const char* what);
  void NoteMatmul(absl::Status status);  // a launch that a library made

  // Device::BeginMoments and what follows it.
  void BeginMoments();
  void NoteMoment(int moment);
  absl::Time MomentOf(int moment) { return moment == 0 ? moment_0_ : TimeOf(moments_[moment]); }
  // REQUIRES: recorded with timing, and passed.
  absl::Time TimeOf(const Event& event);

  CudaCounts counts() const;

 private:
  CudaRuntime(int ordinal, const cudaDeviceProp& properties)
      : ordinal_(ordinal), properties_(properties) {
    stream_.multiprocessors = properties.multiProcessorCount;
  }
  absl::Status Lost(const absl::Status& status) const;

  const int ordinal_;
  const cudaDeviceProp properties_;
  Stream stream_;
  DeviceBuffer stuck_;          // stream_.stuck
  std::vector<Event> moments_;  // all, from the first BeginMoments on
  absl::Time moment_0_;         // on the host's steady clock
  CudaCounts counts_;
  absl::Status status_;
};

}  // namespace pregate::cuda
