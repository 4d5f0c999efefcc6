// The production engine in virtual time, against workers that check every plan, under random load
// and random faults (sim/testing/fault_run.h).
//
//   sim_faults_test                              the tests: as many seeds as fit into 20 s
//   sim_faults_test --seeds=10000 [--first=1]    so many; the last line says how many a second
//   sim_faults_test --seed=42                    one, with its trace
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/hash.h"
#include "sim/testing/fault_run.h"

namespace pregate::scheduler {
namespace {

constexpr int kThreads = 2;
constexpr absl::Duration kTestTime = absl::Seconds(20);

thread_local uint64_t running_seed = 0;

// The code under test may abort at a broken invariant or crash: the seed must be known then too.
void OnCrash(int signal) {
  std::fprintf(stderr, "sim_faults_test --seed=%lu crashed\n", running_seed);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

FaultRun RunSeed(uint64_t seed, const FaultRunOptions& options = {}) {
  running_seed = seed;
  return RunFaults(seed, options);
}

struct Sweep {
  FaultRun total;
  int64_t seeds = 0;
  absl::Duration took;
  std::vector<std::string> failures;  // the first few
};

// Seeds from `first` on, until `count` are done or `time` is over.
Sweep RunSweep(uint64_t first, uint64_t count, absl::Duration time) {
  constexpr size_t kFailuresMax = 5, kProblemsMax = 5;
  const absl::Time begin = absl::Now();
  Sweep sweep;
  std::mutex mutex;  // of sweep
  std::atomic<uint64_t> next{0};
  const auto work = [&] {
    for (uint64_t i; absl::Now() - begin < time && (i = next++) < count;) {
      FaultRun run = RunSeed(first + i);
      std::lock_guard lock(mutex);
      ++sweep.seeds;
      sweep.total.Add(run);
      if (run.problems.empty() || sweep.failures.size() >= kFailuresMax) continue;
      run.problems.resize(std::min(run.problems.size(), kProblemsMax));
      sweep.failures.push_back(absl::StrCat("sim_faults_test --seed=", first + i, " (",
                                            run.scenario, "):\n  ",
                                            absl::StrJoin(run.problems, "\n  ")));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  sweep.took = absl::Now() - begin;
  return sweep;
}

void Print(const Sweep& sweep) {
  const FaultRun& t = sweep.total;
  std::printf(
      "%d faults: %d recoveries, %d preemptions, %d refusals, %d resumes, %d cancelled, %d failed; "
      "%ld plans, "
      "%ld right drafts, %ld unit loads; served at most %s after the faults\n"
      "%ld seeds in %s, %.0f a second on %d threads\n",
      t.faults, t.recoveries, t.preemptions, t.refusals, t.resumes, t.cancelled, t.failed, t.plans,
      t.right_drafts, t.unit_loads, absl::FormatDuration(t.served_last).c_str(), sweep.seeds,
      absl::FormatDuration(absl::Trunc(sweep.took, absl::Milliseconds(1))).c_str(),
      sweep.seeds / absl::ToDoubleSeconds(sweep.took), kThreads);
}

TEST(FaultsTest, CostTimeAndNothingElse) {
  const Sweep sweep = RunSweep(1, std::numeric_limits<uint64_t>::max(), kTestTime);
  Print(sweep);
  EXPECT_THAT(sweep.failures, testing::IsEmpty());
  EXPECT_GT(sweep.total.recoveries, 0);
  EXPECT_GT(sweep.total.preemptions, 0);
  EXPECT_GT(sweep.total.refusals, 0);
  EXPECT_GT(sweep.total.resumes, 0);
  EXPECT_GT(sweep.total.right_drafts, 0);
  EXPECT_GT(sweep.total.found_tokens, 0);
  EXPECT_GT(sweep.total.unit_loads, 0);
}

TEST(FaultsTest, TheSameSeedGivesTheSameTrace) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const FaultRunOptions traced{.trace = true};
    const std::string trace = RunSeed(seed, traced).trace;
    ASSERT_EQ(trace, RunSeed(seed, traced).trace) << "seed " << seed;
    ASSERT_NE(trace, RunSeed(seed + 1000, traced).trace) << "seed " << seed;
  }
}

TEST(FaultsTest, WrongTokensShow) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    EXPECT_THAT(RunSeed(seed, {.wrong_tokens = true}).problems, testing::Not(testing::IsEmpty()))
        << "seed " << seed;
  }
}

int Replay(uint64_t seed) {
  const FaultRun run = RunSeed(seed, {.trace = true});
  std::fputs(run.trace.c_str(), stdout);
  for (const std::string& problem : run.problems) std::printf("problem: %s\n", problem.c_str());
  std::printf("seed %lu: %s: %zu problems, trace %s\n", seed, run.scenario.c_str(),
              run.problems.size(), Xxh3Hex(run.trace).c_str());
  return run.problems.empty() ? 0 : 1;
}

int SweepOnly(uint64_t first, uint64_t count) {
  const Sweep sweep = RunSweep(first, count, absl::InfiniteDuration());
  for (const std::string& failure : sweep.failures) std::printf("%s\n", failure.c_str());
  Print(sweep);
  return sweep.failures.empty() ? 0 : 1;
}

}  // namespace
}  // namespace pregate::scheduler

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  for (const int signal : {SIGABRT, SIGSEGV}) std::signal(signal, pregate::scheduler::OnCrash);
  uint64_t seed = 0, seeds = 0, first = 1;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    uint64_t* value = absl::ConsumePrefix(&arg, "--seed=")    ? &seed
                      : absl::ConsumePrefix(&arg, "--seeds=") ? &seeds
                      : absl::ConsumePrefix(&arg, "--first=") ? &first
                                                              : nullptr;
    if (value != nullptr && absl::SimpleAtoi(arg, value)) continue;
    std::fprintf(stderr, "%s: --seed=N, --seeds=N or --first=N\n", argv[i]);
    return 2;
  }
  if (seed != 0) return pregate::scheduler::Replay(seed);
  if (seeds != 0) return pregate::scheduler::SweepOnly(first, seeds);
  return RUN_ALL_TESTS();
}
