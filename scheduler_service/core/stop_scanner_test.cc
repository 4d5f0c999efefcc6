#include "scheduler_service/core/stop_scanner.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "scheduler_service/core/random_source.h"
#include "sim/testing/reference.h"

namespace pregate::scheduler {
namespace {

TEST(StopScannerTest, HoldsBackWhatMayBeAStopString) {
  StopScanner scanner({"END"});
  EXPECT_EQ(scanner.Add("the E"), "the ");
  EXPECT_EQ(scanner.Add("N"), "");
  EXPECT_EQ(scanner.Add("T"), "ENT");
  EXPECT_EQ(scanner.Add(" END of it"), " ");
  EXPECT_EQ(scanner.matched(), "END");
  EXPECT_EQ(scanner.Add("more"), "");
  EXPECT_EQ(scanner.Flush(), "");
}

TEST(StopScannerTest, ReleasesTheRestAtTheEnd) {
  StopScanner scanner({"aab"});
  EXPECT_EQ(scanner.Add("xaaa"), "xa");
  EXPECT_EQ(scanner.Flush(), "aa");
  EXPECT_FALSE(scanner.matched());
}

TEST(StopScannerTest, TakesTheMatchThatEndsFirstThenTheLongest) {
  StopScanner first({"abcd", "bc"});
  EXPECT_EQ(first.Add("xabcd"), "xa");
  EXPECT_EQ(first.matched(), "bc");
  StopScanner longest({"c", "abc"});
  EXPECT_EQ(longest.Add("xabc"), "x");
  EXPECT_EQ(longest.matched(), "abc");
}

TEST(StopScannerTest, WithoutStopStringsNothingIsHeld) {
  StopScanner scanner({});
  EXPECT_EQ(scanner.Add("anything"), "anything");
}

std::string RandomText(SplitMix64* random, size_t size_max) {
  std::string text;
  for (size_t i = 1 + random->Next() % size_max; i > 0; --i)
    text.push_back("ab"[random->Next() % 2]);
  return text;
}

TEST(StopScannerTest, EqualsTheNaiveSearchHoweverTheTextIsCut) {
  const char* env = std::getenv("PREGATE_SEED");
  const uint64_t seed = env ? std::strtoull(env, nullptr, 10) : 1;
  std::printf("seed %lu\n", seed);
  SplitMix64 random(seed);
  int num_matched = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = random.Next() % 4; i > 0; --i) stops.push_back(RandomText(&random, 6));
    const std::string text = RandomText(&random, 30);
    const NaiveMatch want = FindStop(text, stops);
    StopScanner scanner(stops);
    std::string got;
    for (size_t at = 0; at < text.size() && !scanner.matched();) {
      const size_t size = 1 + random.Next() % 5;
      got += scanner.Add(text.substr(at, size));
      at += size;
      ASSERT_EQ(text.compare(0, got.size(), got), 0);
      ASSERT_LE(got.size(), std::min(want.begin, text.size()))
          << "released a part of a stop string";
    }
    got += scanner.Flush();
    ASSERT_EQ(scanner.matched().value_or(""), want.stop) << text;
    ASSERT_EQ(got, text.substr(0, want.begin)) << text;
    num_matched += scanner.matched().has_value();
  }
  EXPECT_GT(num_matched, 1000);
}

}  // namespace
}  // namespace pregate::scheduler
