// A loop's range cut among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace pregate {

// Runs body(begin, end) over disjoint ranges of [0, n), whose ends are multiples of 8, each on a thread
// of its own.
template <typename Body>
void ParallelRanges(int num_threads, int64_t n, const Body& body) {
  const int64_t step = ((n + num_threads - 1) / num_threads + 7) / 8 * 8;
  std::vector<std::thread> threads;
  for (int64_t begin = 0; begin < n; begin += step) {
    threads.emplace_back([&body, begin, end = std::min(n, begin + step)] { body(begin, end); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace pregate
