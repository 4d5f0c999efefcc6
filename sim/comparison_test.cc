#include "sim/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::sim {
namespace {

using testing::HasSubstr;

std::vector<ComparedRun> Runs() {
  std::vector<ComparedRun> runs;
  for (const int32_t slots : {2, 3}) {
    for (const char* const policy : {"first", "second <b>"}) {
      Report r;
      r.normalized.mean = 0.25 * slots;
      r.normalized.p95 = 0.5 * slots;
      r.window_references = 1000;
      r.window_loads = 330;
      r.window_optimal_loads = 300;
      runs.push_back({policy, "plan", slots, r});
    }
  }
  return runs;
}

TEST(ComparisonTest, TheTableHasARowARun) {
  const std::string table = ToTable(Runs());
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 2 + 4);
  EXPECT_THAT(table, HasSubstr("| 3 | first | plan | 0.7500 / 1.5000 |"));
  EXPECT_THAT(table, HasSubstr("0.670 (0.700) | 1.10 |"));
}

TEST(ComparisonTest, ThePictureStandsAloneAndEscapesNames) {
  const std::string svg = ToSvg(Runs(), "a & b");
  EXPECT_THAT(svg, HasSubstr("<svg xmlns="));
  EXPECT_THAT(svg, HasSubstr("a &amp; b"));
  EXPECT_THAT(svg, HasSubstr("second &lt;b&gt;"));
  EXPECT_THAT(svg, HasSubstr("2 slots"));
  EXPECT_THAT(svg, testing::Not(HasSubstr("<b>")));
  EXPECT_THAT(svg, testing::Not(HasSubstr("nan")));
}

TEST(ComparisonTest, RunsWithoutLoadsHaveAPictureToo) {
  EXPECT_EQ(LoadsOverOptimum(Report()), 1);
  EXPECT_THAT(ToSvg({{"fcfs", "plan", 7, Report()}}, ""), testing::Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace pregate::sim
