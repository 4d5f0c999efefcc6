#include "common/device/cpu/thread_pool.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate::cpu {
namespace {

constexpr int kSpins = 2000;  // 40-140 us, by how long the processor's pause takes

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  PREGATE_CHECK(threads >= 1, "threads ", threads);
  for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { WorkerLoop(t); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t num_tasks, Task task) {
  if (workers_.empty() || num_tasks <= 1) {
    for (int64_t i = 0; i < num_tasks; ++i) task(i, 0);
    return;
  }
  task_ = &task;
  num_tasks_ = num_tasks;
  next_ = 0;
  const uint64_t job = (state_.load() >> kJobShift) + 1;
  state_ = job << kJobShift | kOpen;
  if (num_sleeping_ > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  Work(0);
  state_.fetch_and(~kOpen);
  while ((state_.load() & (kOpen - 1)) != 0) Pause();
}

// Claims shrink with what is left (guided self-scheduling): long runs of neighbours first, single
// tasks at the end, when threads must finish together.
void ThreadPool::Work(int thread) {
  int64_t begin = next_.load();
  while (begin < num_tasks_) {
    const int64_t size = std::max<int64_t>(1, (num_tasks_ - begin) / (2 * threads()));
    if (!next_.compare_exchange_weak(begin, begin + size)) continue;
    for (int64_t i = begin; i < begin + size; ++i) (*task_)(i, thread);
    begin = next_.load();
  }
}

bool ThreadPool::TryJoin() {
  uint64_t state = state_.load();
  while ((state & kOpen) != 0) {
    if (state_.compare_exchange_weak(state, state + 1)) return true;
  }
  return false;
}

void ThreadPool::WorkerLoop(int thread) {
  uint64_t seen = 0;
  while (true) {
    for (int i = 0; i < kSpins && !HasNews(seen) && !stop_; ++i) Pause();
    if (!HasNews(seen)) {
      std::unique_lock lock(mutex_);
      ++num_sleeping_;
      wake_.wait(lock, [&] { return HasNews(seen) || stop_; });
      --num_sleeping_;
    }
    if (stop_) return;
    seen = state_.load() >> kJobShift;
    if (!TryJoin()) continue;
    Work(thread);
    --state_;
  }
}

}  // namespace pregate::cpu
