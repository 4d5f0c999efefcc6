#include "common/device/cpu/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace pregate::cpu {
namespace {

TEST(ThreadPoolTest, EveryTaskRunsOnceAndOnAKnownThread) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t n = 0; n < 300; ++n) {
      std::vector<std::atomic<int>> runs(n);
      std::atomic<int> bad_threads{0};
      pool.Run(n, [&](int64_t i, int thread) {
        ++runs[i];
        if (thread < 0 || thread >= threads) ++bad_threads;
      });
      for (const auto& count : runs) ASSERT_EQ(count, 1);
      ASSERT_EQ(bad_threads, 0);
    }
  }
}

TEST(ThreadPoolTest, WhatTasksWroteIsSeenAfterRun) {
  ThreadPool pool(4);
  std::vector<int64_t> values(1000);  // not atomic: Run orders the writes before its return
  for (int round = 1; round <= 200; ++round) {
    pool.Run(1000, [&](int64_t i, int) { values[i] += i; });
    for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(values[i], i * round);
  }
}

// Tasks that wait for each other pass only if two threads are at work.
TEST(ThreadPoolTest, WorkersJoinAlsoAfterTheyFellAsleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    absl::Notification arrived[2];
    pool.Run(2, [&](int64_t i, int) {
      arrived[i].Notify();
      arrived[1 - i].WaitForNotification();
    });
    while (pool.num_sleeping() == 0) std::this_thread::yield();
  }
}

TEST(ThreadPoolTest, PoolsThatNeverRanComeDown) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

}  // namespace
}  // namespace pregate::cpu
