#include "common/telemetry/log.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using ::testing::HasSubstr;

struct Captured {
  std::vector<std::string> lines;
  Log log;
  explicit Captured(const LogOptions& options)
      : log("worker", options, [this](absl::string_view line) { lines.emplace_back(line); }) {}
};

TEST(LogTest, WritesOneJsonObjectALine) {
  Captured c({.level = "info", .format = "json"});
  c.log.Warn(
      "it \"broke\"\n",
      {{"text", "a\nb\xff"}, {"count", 3}, {"on", true}, {"share", 0.5}, {"nan", 0.0 / 0.0}});
  ASSERT_EQ(c.lines.size(), 1u);
  EXPECT_EQ(c.lines[0].find('\n'), std::string::npos);
  const auto json = nlohmann::json::parse(c.lines[0]);
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["service"], "worker");
  EXPECT_EQ(json["message"], "it \"broke\"\n");
  EXPECT_EQ(json["text"], "a\nb\xEF\xBF\xBD");
  EXPECT_EQ(json["count"], 3);
  EXPECT_EQ(json["on"], true);
  EXPECT_EQ(json["share"], 0.5);
  EXPECT_TRUE(json["nan"].is_string());
}

TEST(LogTest, TextKeepsFieldsOnOneLine) {
  Captured c({.level = "debug", .format = "text"});
  c.log.Debug("worker up", {{"rank", 0}, {"device", "cpu\nx"}});
  ASSERT_EQ(c.lines.size(), 1u);
  EXPECT_THAT(c.lines[0], HasSubstr("debug worker: worker up rank=0 device=\"cpu\\nx\""));
}

TEST(LogTest, DropsWhatIsBelowItsLevel) {
  Captured c({.level = "warn", .format = "json"});
  c.log.Debug("d");
  c.log.Info("i");
  c.log.Warn("w");
  c.log.Error("e");
  EXPECT_EQ(c.lines.size(), 2u);
}

}  // namespace
}  // namespace pregate
