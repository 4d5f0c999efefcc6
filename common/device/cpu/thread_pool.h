// Fork-join over one device's threads. Tasks are independent and write disjoint outputs, so that
// which thread runs a task, and how many threads there are, never shows in the results.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace pregate::cpu {

// Run is called by one thread at a time, never from within a task. Idle workers spin for some
// microseconds, which covers the gap between two operations of a step, then block.
class ThreadPool {
 public:
  // `threads` counts the caller's thread too; >= 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  int num_sleeping() const { return num_sleeping_; }  // workers that are blocked

  // Calls task(i, thread) once for each i in [0, num_tasks), thread in [0, threads()); returns when
  // all are done. Neighbouring tasks tend to go to one thread, in ascending order.
  using Task = absl::FunctionRef<void(int64_t i, int thread)>;
  void Run(int64_t num_tasks, Task task);

 private:
  void WorkerLoop(int thread);
  void Work(int thread);
  bool TryJoin();
  bool HasNews(uint64_t seen) const { return state_.load() >> kJobShift != seen; }

  // Number of the current job (high half), whether it is open to workers, and how many are in it.
  // A worker that is late finds the job closed, so that Run never waits for one to wake up.
  static constexpr int kJobShift = 32;
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  std::atomic<uint64_t> state_{0};
  std::atomic<int64_t> next_{0};
  int64_t num_tasks_ = 0;
  const Task* task_ = nullptr;

  std::atomic<int> num_sleeping_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // with wake_: only for sleeping and waking
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace pregate::cpu
