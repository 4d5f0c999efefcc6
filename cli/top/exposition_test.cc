#include "cli/top/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"

namespace pregate::cli {
namespace {

using ::testing::HasSubstr;

TEST(ExpositionTest, ReadsWhatTheFormatAllows) {
  const auto samples = ParseExposition(
      "# HELP a A\n# TYPE a counter\n\n"
      "a 1\n"
      "a_total{} 2.5\r\n"
      "b:c{x=\"1\",y=\"\"} -3e2 1700000000000\n"
      "  d { x = \"say \\\"hi\\\" \\\\ \\n{},=#\" , }\t+Inf  \n"
      "e NaN\n"
      "f{le=\"+Inf\"} 7");
  ASSERT_TRUE(samples.ok()) << samples.status();
  ASSERT_EQ(samples->size(), 6u);
  EXPECT_EQ((*samples)[0].name, "a");
  EXPECT_EQ((*samples)[0].value, 1);
  EXPECT_EQ((*samples)[1].value, 2.5);
  EXPECT_EQ((*samples)[2].name, "b:c");
  EXPECT_EQ((*samples)[2].labels, (std::map<std::string, std::string>{{"x", "1"}, {"y", ""}}));
  EXPECT_EQ((*samples)[2].value, -300);
  EXPECT_EQ((*samples)[3].labels.at("x"), "say \"hi\" \\ \n{},=#");
  EXPECT_EQ((*samples)[3].value, INFINITY);
  EXPECT_TRUE(std::isnan((*samples)[4].value));
  EXPECT_EQ((*samples)[5].labels.at("le"), "+Inf");
}

TEST(ExpositionTest, NamesTheLineThatIsWrong) {
  const struct {
    const char* line;
    const char* why;
  } kCases[] = {
      {"1a 1", "name"},
      {"=", "name"},
      {"a", "no number"},
      {"a x", "no number"},
      {"a 1 2 3", "behind"},
      {"a 1 x", "timestamp"},
      {"a{", "no name"},
      {"a{x", "'='"},
      {"a{x=1} 1", "not quoted"},
      {"a{x=\"1} 1", "does not end"},
      {"a{x=\"1\\", "does not end"},
      {"a{x=\"\\t\"} 1", "escape"},
      {"a{x=\"1\" y=\"2\"} 1", "','"},
      {"a{x=\"1\",x=\"2\"} 1", "twice"},
      {"a{x:y=\"1\"} 1", "'='"},
      {"a{x=\"1\"}", "no number"},
      {"<html>", "name"},
      {"\x80\xff 1", "name"},
  };
  for (const auto& c : kCases) {
    const auto samples = ParseExposition(absl::StrCat("# fine\nok 1\n", c.line, "\nok 2\n"));
    ASSERT_FALSE(samples.ok()) << c.line;
    EXPECT_THAT(std::string(samples.status().message()), HasSubstr("line 3")) << c.line;
    EXPECT_THAT(std::string(samples.status().message()), HasSubstr(c.why)) << c.line;
  }
}

TEST(ExpositionTest, BoundsWhatItKeepsAndWhatItQuotes) {
  EXPECT_FALSE(ParseExposition(std::string(kExpositionBytesMax + 1, '\n')).ok());
  EXPECT_TRUE(ParseExposition(std::string(kExpositionBytesMax, '\n')).ok());
  std::string many;
  for (size_t i = 0; i < kExpositionSamplesMax; ++i) many += "a 1\n";
  EXPECT_TRUE(ParseExposition(many).ok());
  EXPECT_FALSE(ParseExposition(many + "a 1\n").ok());
  std::string labels = "a{";
  for (size_t i = 0; i <= kSampleLabelsMax; ++i) absl::StrAppend(&labels, "x", i, "=\"1\",");
  EXPECT_FALSE(ParseExposition(labels + "} 1").ok());
  const auto garbage = ParseExposition(std::string(100000, '\x01'));
  EXPECT_LT(garbage.status().message().size(), 500u);
}

// Whatever bytes come, it ends with samples or a reason.
TEST(ExpositionTest, SurvivesChangedBytes) {
  const std::string good =
      "# TYPE a histogram\na_bucket{le=\"0.5\",model=\"m\"} 3\na_bucket{le=\"+Inf\"} 4 17\na_sum "
      "2\n";
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::string spice = "{}\"\\=,\n #+-e.\x00\xff";
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = good;
    for (int n = 0; n < 1 + i % 4; ++n) {
      text[random() % text.size()] = spice[random() % spice.size()];
    }
    text.resize(random() % (text.size() + 1));
    refused += !ParseExposition(text).ok();
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 19000);
}

}  // namespace
}  // namespace pregate::cli
