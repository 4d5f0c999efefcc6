#include "expert_service/engine/image_loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/device/host_image_writer.h"

namespace pregate {
namespace {

// How often progress within an image is looked for.
constexpr std::chrono::milliseconds kLookInterval{100};

int NumThreads(const Device& device, const LoadOptions& options) {
  // More would only wait for the link to the card, each with memory to stage in.
  const int most = device.host_memory() && options.threads > 0 ? options.threads : kLoadThreadsMax;
  const int wanted =
      options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(wanted, 1, most);
}

absl::StatusOr<std::unique_ptr<ImageWriter>> MakeWriter(Device& device, bool on_host) {
  if (on_host) return std::make_unique<HostImageWriter>(&device);
  return device.MakeImageWriter();
}

class Loading {
 public:
  Loading(absl::Span<ImageLoad> loads, const LoadProgress& progress)
      : loads_(loads), progress_(progress), status_(loads.size()) {}

  absl::Status Run(Device& device, const LoadOptions& options) {
    const size_t most = std::min<size_t>(NumThreads(device, options), loads_.size());
    absl::Status no_writer;
    std::vector<std::unique_ptr<ImageWriter>> writers;
    {
      std::vector<std::jthread> helpers;
      while (helpers.size() < most) {  // the first are at work while others get their memory
        auto writer = MakeWriter(device, options.on_host);
        no_writer = writer.status();
        if (!no_writer.ok()) break;
        writers.push_back(*std::move(writer));
        BeginHelper(*writers.back(), helpers);
      }
      if (!no_writer.ok()) stop_ = true;
      Watch();
    }
    if (meter_.is_stopped) return absl::AbortedError("loading was stopped");
    for (const absl::Status& status : status_) RETURN_IF_ERROR(status);
    return no_writer;
  }

 private:
  void BeginHelper(ImageWriter& writer, std::vector<std::jthread>& helpers) {
    const std::lock_guard lock(mutex_);
    ++num_helpers_;
    helpers.emplace_back([this, &writer] { Help(writer); });
  }

  // Loads are claimed in order, and a claimed one is finished whatever others find: so every load
  // before the first error has been tried.
  void Help(ImageWriter& writer) {
    std::vector<size_t> written;
    while (!stop_) {
      const size_t i = next_++;
      if (i >= loads_.size()) break;
      status_[i] = loads_[i].write(writer, meter_);
      if (status_[i].ok()) {
        written.push_back(i);
      } else {
        stop_ = true;
      }
      const std::lock_guard lock(mutex_);
      num_written_ += status_[i].ok();
      news_.notify_one();
    }
    const absl::Status finished = writer.Finish();
    for (const size_t i : written) {
      status_[i] = finished;
      loads_[i].done = finished.ok();
    }
    const std::lock_guard lock(mutex_);
    --num_helpers_;
    news_.notify_one();
  }

  // On the calling thread, until the helpers have ended.
  void Watch() {
    int64_t rows = 0;
    int written = 0;
    std::unique_lock lock(mutex_);
    for (bool ended = false; !ended;) {
      news_.wait_for(lock, kLookInterval,
                     [&] { return num_helpers_ == 0 || num_written_ != written; });
      ended = num_helpers_ == 0;
      if (meter_.rows == rows && num_written_ == written) continue;
      rows = meter_.rows;
      written = num_written_;
      lock.unlock();
      if (progress_ && !progress_(written, static_cast<int>(loads_.size()))) {
        meter_.is_stopped = stop_ = true;
      }
      lock.lock();
    }
  }

  const absl::Span<ImageLoad> loads_;
  const LoadProgress& progress_;
  std::vector<absl::Status> status_;  // [loads] each written by its helper
  std::atomic<size_t> next_{0};
  std::atomic<bool> stop_{false};  // claim no more
  LoadMeter meter_;

  std::mutex mutex_;  // what follows
  std::condition_variable news_;
  int num_helpers_ = 0;
  int num_written_ = 0;
};

}  // namespace

absl::Status LoadImages(Device& device, const LoadOptions& options, absl::Span<ImageLoad> loads,
                        const LoadProgress& progress) {
  return Loading(loads, progress).Run(device, options);
}

}  // namespace pregate
