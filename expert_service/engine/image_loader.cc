#include "expert_service/engine/image_loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// How often progress within an image is looked for.
constexpr std::chrono::milliseconds kLookInterval{100};

class Loading {
 public:
  Loading(Device& device, absl::Span<ImageLoad> loads, const LoadProgress& progress)
      : device_(device), loads_(loads), progress_(progress), status_(loads.size()) {}

  absl::Status Run(int threads) {
    num_helpers_ = static_cast<int>(std::min<size_t>(threads, loads_.size()));
    {
      std::vector<std::jthread> helpers;
      for (int i = num_helpers_; i > 0; --i) helpers.emplace_back([this] { Help(); });
      Collect();
    }
    for (const absl::Status& status : status_) RETURN_IF_ERROR(status);
    return stop_ ? absl::AbortedError("loading was stopped") : absl::OkStatus();
  }

 private:
  // A load in a helper's buffer, or null where it is already in its place.
  struct Written {
    size_t load;
    const void* buffer;
    bool* taken;  // set when the buffer is free again
  };

  // Loads are claimed in order, and a claimed one is finished: so every load before the first error
  // has been tried.
  void Help() {
    std::unique_ptr<std::byte[]> buffer;
    size_t buffer_bytes = 0;
    while (!stop_) {
      const size_t i = next_++;
      if (i >= loads_.size()) break;
      ImageLoad& load = loads_[i];
      const bool in_place = load.on_host || device_.host_memory();
      if (!in_place && buffer_bytes < load.bytes) {
        buffer = std::make_unique_for_overwrite<std::byte[]>(buffer_bytes = load.bytes);
      }
      status_[i] = load.write(in_place ? load.dst : buffer.get(), moved_);
      if (!status_[i].ok()) stop_ = true;
      HandOver(i, in_place ? nullptr : buffer.get());
    }
    const std::lock_guard lock(mutex_);
    --num_helpers_;
    news_.notify_one();
  }

  // Returns when the buffer is free again.
  void HandOver(size_t load, const void* buffer) {
    bool taken = buffer == nullptr;
    std::unique_lock lock(mutex_);
    written_.push_back({load, buffer, taken ? nullptr : &taken});
    news_.notify_one();
    taken_.wait(lock, [&] { return taken; });
  }

  // On the calling thread, until the helpers have ended.
  void Collect() {
    int64_t moved = 0;
    std::unique_lock lock(mutex_);
    while (num_helpers_ > 0 || !written_.empty()) {
      news_.wait_for(lock, kLookInterval, [&] { return num_helpers_ == 0 || !written_.empty(); });
      std::deque<Written> batch;
      batch.swap(written_);
      lock.unlock();
      for (const Written& written : batch) Finish(written);
      if (moved_ != moved || !batch.empty()) Report();
      moved = moved_;
      lock.lock();
    }
  }

  void Finish(const Written& written) {
    ImageLoad& load = loads_[written.load];
    load.done = status_[written.load].ok();
    if (load.done) ++num_done_;
    if (written.buffer == nullptr) return;
    if (load.done) device_.Upload(load.dst, written.buffer, load.bytes);
    const std::lock_guard lock(mutex_);
    *written.taken = true;
    taken_.notify_all();
  }

  void Report() {
    if (progress_ && !progress_(num_done_, static_cast<int>(loads_.size()))) stop_ = true;
  }

  Device& device_;
  const absl::Span<ImageLoad> loads_;
  const LoadProgress& progress_;
  std::vector<absl::Status> status_;  // [loads] each written by its helper
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> moved_{0};
  std::atomic<bool> stop_{false};
  int num_done_ = 0;

  std::mutex mutex_;  // what follows, and each Written::taken
  std::condition_variable news_, taken_;
  std::deque<Written> written_;
  int num_helpers_ = 0;
};

}  // namespace

int LoadThreads(int threads) {
  if (threads > 0) return threads;
  return std::clamp<int>(std::thread::hardware_concurrency(), 1, kLoadThreadsMax);
}

absl::Status LoadImages(Device& device, int threads, absl::Span<ImageLoad> loads,
                        const LoadProgress& progress) {
  return Loading(device, loads, progress).Run(LoadThreads(threads));
}

}  // namespace pregate
