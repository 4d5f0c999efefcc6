#include "refactor/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace pregate {
namespace {

// Windows 0 to 5 are of domain 0, 6 and 7 of domain 1; then the parent's.
Corpus WindowsOf(int sampled) {
  Corpus corpus{
      .domains = {"long", "short"}, .window_tokens = 1, .window_domain = {0, 0, 0, 0, 0, 0, 1, 1}};
  for (int n = 0; n < sampled; ++n) corpus.window_domain.push_back(n % 2);
  corpus.tokens.assign(corpus.window_domain.size(), 0);
  return corpus;
}

// How often each window came in `steps` steps.
std::map<int32_t, int> Counts(Batches& batches, int steps, int size) {
  std::map<int32_t, int> counts;
  for (int step = 0; step < steps; ++step) {
    for (const int32_t window : batches.Of(step, size)) ++counts[window];
  }
  return counts;
}

TEST(BatchesTest, APassHasEachDomainEquallyOften) {
  Batches batches(WindowsOf(0), 0, 0.5, 3);
  const auto counts = Counts(batches, 4, 6);  // two passes of 12
  for (int32_t w = 0; w < 6; ++w) EXPECT_EQ(counts.at(w), 2) << w;
  for (int32_t w = 6; w < 8; ++w) EXPECT_EQ(counts.at(w), 6) << w;
}

TEST(BatchesTest, EverySecondWindowIsSampledHoweverManyThereAre) {
  for (const int sampled : {4, 36}) {
    Batches batches(WindowsOf(sampled), sampled, 0.5, 3);
    for (int step = 0; step < 12; ++step) {
      const std::vector<int32_t> batch = batches.Of(step, 6);
      for (size_t i = 0; i < batch.size(); ++i) EXPECT_EQ(batch[i] >= 8, i % 2 == 1);
    }
    const auto counts = Counts(batches, 12, 6);  // 36 of each kind
    for (int32_t w = 0; w < 6; ++w) EXPECT_EQ(counts.at(w), 3) << w;
    for (int32_t w = 6; w < 8; ++w) EXPECT_EQ(counts.at(w), 9) << w;
    for (int32_t w = 8; w < 8 + sampled; ++w) EXPECT_EQ(counts.at(w), 36 / sampled) << w;
  }
}

TEST(BatchesTest, TextHasItsShareEvenlySpread) {
  for (const double share : {0.2, 0.3, 0.75, 1.0}) {
    Batches batches(WindowsOf(40), 40, share, 3);
    int text = 0;
    for (int step = 0; step < 20; ++step) {
      for (const int32_t window : batches.Of(step, 7)) text += window < 8 ? 1 : 0;
      EXPECT_NEAR(text, share * 7 * (step + 1), 1) << share;
    }
  }
}

TEST(BatchesTest, AStepsWindowsAreOfSeedAndStepAlone) {
  const Corpus corpus = WindowsOf(10);
  Batches from_start(corpus, 10, 0.5, 3), later(corpus, 10, 0.5, 3), other(corpus, 10, 0.5, 4);
  for (int step = 0; step < 7; ++step) from_start.Of(step, 5);
  const std::vector<int32_t> batch = from_start.Of(7, 5);
  EXPECT_EQ(batch, later.Of(7, 5));
  EXPECT_NE(batch, other.Of(7, 5));
}

}  // namespace
}  // namespace pregate
