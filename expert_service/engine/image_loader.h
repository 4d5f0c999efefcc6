// Images on their way from files to a device, on several threads.
//
//   helpers            write images: where they stay, or into a buffer of their own each
//   calling thread     uploads what lies in buffers, reports progress
//
// So beside the model the host holds an image a helper at most, and none on a device whose memory is
// the host's.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "expert_service/engine/progress.h"

namespace pregate {

struct ImageLoad {
  void* dst = nullptr;  // `bytes` of the device's memory
  size_t bytes = 0;
  bool on_host = false;  // no: it is AllocateHost's
  // Writes all bytes of the image; called once, on a helper. What it adds to the counter shows that
  // it moves.
  std::function<absl::Status(void* host_image, std::atomic<int64_t>& moved)> write;
  bool done = false;  // out: it is there, for operations enqueued from now on
};

// Threads for 0: one a hardware thread, at most kLoadThreadsMax.
int LoadThreads(int threads);

// The error is that of the first load that has one, in the order given, whatever the threads did;
// ABORTED where `progress` (may be null) stopped it. Called by the thread that enqueues on the
// device.
absl::Status LoadImages(Device& device, int threads, absl::Span<ImageLoad> loads,
                        const LoadProgress& progress);

}  // namespace pregate
