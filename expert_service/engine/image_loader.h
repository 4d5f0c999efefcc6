// Images on their way from files to where they stay, on several threads.
//
//   helpers            write images, each with a writer of its own (common/device/image_writer.h)
//   calling thread     reports progress
//
// So beside the model the host holds what a writer stages, and nothing on a device whose memory is
// the host's.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "expert_service/engine/progress.h"

namespace pregate {

struct ImageLoad {
  // Writes all rows of the image; called once, on a helper.
  std::function<absl::Status(ImageWriter& writer, LoadMeter& meter)> write;
  bool done = false;  // out: it is there, for operations enqueued from now on
};

struct LoadOptions {
  int threads = 0;       // 0: one a hardware thread. At most kLoadThreadsMax, for a card and for 0
  bool on_host = false;  // the images lie in AllocateHost's memory
};

// The error is that of the first load that has one, in the order given, whatever the threads did;
// ABORTED where `progress` (may be null) stopped it. Nothing is under way when it returns. Called by
// the thread that enqueues on the device.
absl::Status LoadImages(Device& device, const LoadOptions& options, absl::Span<ImageLoad> loads,
                        const LoadProgress& progress);

}  // namespace pregate
