#include "cli/top/series.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pregate::cli {
namespace {

Scrape Parse(const char* text) {
  auto samples = ParseExposition(text);
  EXPECT_TRUE(samples.ok()) << samples.status();
  return Scrape(*std::move(samples));
}

TEST(ScrapeTest, AddsUpTheSeriesThatMatch) {
  const Scrape scrape = Parse(
      "a{r=\"0\",m=\"x\"} 1\na{r=\"1\",m=\"x\"} 2\na{r=\"1\",m=\"y\"} 4\na{m=\"x\"} 8\nb NaN\n");
  EXPECT_EQ(scrape.Sum("a"), 15);
  EXPECT_EQ(scrape.Sum("a", {{"r", "1"}}), 6);
  EXPECT_EQ(scrape.Sum("a", {{"r", "1"}, {"m", "y"}}), 4);
  EXPECT_EQ(scrape.Sum("a", {{"r", "2"}}), std::nullopt);
  EXPECT_EQ(scrape.Sum("b"), std::nullopt);
  EXPECT_EQ(scrape.Sum("c"), std::nullopt);
  EXPECT_EQ(scrape.SumBy("a", "r"), (std::map<std::string, double>{{"0", 1}, {"1", 6}}));
  EXPECT_EQ(scrape.AnyLabel("m"), "x");
  EXPECT_EQ(scrape.AnyLabel("none"), "");
}

TEST(ScrapeTest, DropsWhatNoCounterHolds) {
  const Scrape scrape = Parse(
      "a{e=\"0\"} 1\na{e=\"1\"} -7\na{e=\"2\"} +Inf\na{e=\"3\"} -Inf\nb -1\n"
      "h_bucket{le=\"-1\"} 3\nh_bucket{le=\"-Inf\"} 3\nh_bucket{le=\"1\"} "
      "-3\nh_bucket{le=\"+Inf\"} 4\n");
  EXPECT_EQ(scrape.SumBy("a", "e"), (std::map<std::string, double>{{"0", 1}}));
  EXPECT_EQ(scrape.Sum("b"), std::nullopt);
  EXPECT_EQ(scrape.Histogram("h"), (Buckets{{INFINITY, 4}}));
}

TEST(SeriesTest, ACounterThatFellWasStartedAnew) {
  EXPECT_EQ(Increase(5, 7), 2);
  EXPECT_EQ(Increase(5, 5), 0);
  EXPECT_EQ(Increase(5, 3), 3);
}

TEST(SeriesTest, AHistogramRisesBucketByBucket) {
  const Buckets before{{1, 2}, {2, 4}, {INFINITY, 5}};
  EXPECT_EQ(Increase(before, Buckets{{1, 3}, {2, 7}, {INFINITY, 8}}),
            (Buckets{{1, 1}, {2, 3}, {INFINITY, 3}}));
  const Buckets restarted{{1, 1}, {2, 1}, {INFINITY, 1}};
  EXPECT_EQ(Increase(before, restarted), restarted);
  const Buckets other_bounds{{1, 9}, {3, 9}, {INFINITY, 9}};
  EXPECT_EQ(Increase(before, other_bounds), other_bounds);
  EXPECT_EQ(Increase({}, before), before);
  EXPECT_EQ(Add(before, restarted), (Buckets{{1, 3}, {2, 5}, {INFINITY, 6}}));
}

TEST(SeriesTest, QuantilesAreThoseOfPrometheus) {
  const Buckets buckets{{0.1, 10}, {0.2, 10}, {0.4, 30}, {INFINITY, 40}};
  const struct {
    double q, expected;
  } kCases[] = {
      {0.125, 0.05},              // halfway through the first bucket, from 0
      {0.25, 0.1},   {0.5, 0.3},  // halfway through 0.2..0.4; the empty one is passed over
      {0.75, 0.4},   {0.9, 0.4},  // beyond the last bound: that bound
      {1, 0.4},      {0, 0}};
  for (const auto& c : kCases) EXPECT_NEAR(*Quantile(buckets, c.q), c.expected, 1e-12) << c.q;
  EXPECT_EQ(Quantile({}, 0.5), std::nullopt);
  EXPECT_EQ(Quantile({{0.1, 0}, {INFINITY, 0}}, 0.5), std::nullopt);
  EXPECT_EQ(Quantile({{INFINITY, 3}}, 0.5), 0);
  EXPECT_NEAR(*Quantile({{1, 5}, {2, 3}, {INFINITY, 6}}, 0.5), 0.6, 1e-12);  // counts that fall
}

TEST(SeriesTest, ReadsAHistogramByItsLabels) {
  const Scrape scrape = Parse(
      "t_bucket{rank=\"0\",le=\"0.5\"} 1\nt_bucket{rank=\"0\",le=\"+Inf\"} 2\n"
      "t_bucket{rank=\"1\",le=\"0.5\"} 10\nt_bucket{rank=\"1\",le=\"+Inf\"} 20\n"
      "t_bucket{rank=\"1\",le=\"wide\"} 99\nt_count 22\n");
  EXPECT_EQ(scrape.Histogram("t"), (Buckets{{0.5, 11}, {INFINITY, 22}}));
  EXPECT_EQ(scrape.Histogram("t", {{"rank", "1"}}), (Buckets{{0.5, 10}, {INFINITY, 20}}));
  EXPECT_TRUE(scrape.Histogram("u").empty());
}

}  // namespace
}  // namespace pregate::cli
