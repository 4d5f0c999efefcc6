#include "sim/route_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/mix.h"

namespace pregate::sim {
namespace {

using testing::HasSubstr;

std::string ErrorOf(absl::string_view text) {
  return std::string(ParseRoutes(text).status().message());
}

TEST(RouteRecordTest, WhatIsWrittenIsRead) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    RouteRecord record{static_cast<int32_t>(1 + Mix(seed, 1) % 9), "a model, of seed", {}};
    for (uint64_t t = 0; t <= Mix(seed, 2) % 4; ++t) {
      std::vector<ExpertId>& text = record.texts.emplace_back();
      for (uint64_t i = 0; i <= Mix(seed, 3 + t) % 300; ++i) {
        const bool stays = i > 0 && Mix(seed + t, i) % 4 > 0;
        text.push_back(stays ? text.back()
                             : static_cast<ExpertId>(Mix(seed, i) % record.num_experts));
      }
    }
    const auto read = ParseRoutes(FormatRoutes(record));
    ASSERT_TRUE(read.ok()) << read.status() << ", seed " << seed;
    EXPECT_EQ(read->num_experts, record.num_experts);
    EXPECT_EQ(read->model, record.model);
    EXPECT_EQ(read->texts, record.texts);
  }
}

TEST(RouteRecordTest, IsReadable) {
  const RouteRecord record{3, "tiny", {{0, 0, 0, 2, 1, 1}, {1}}};
  EXPECT_EQ(FormatRoutes(record),
            "pregate-routes 1\nexperts 3\nmodel tiny\ntext 0*3 2 1*2\ntext 1\n");
}

TEST(RouteRecordTest, SaysWhichLineIsWrong) {
  const std::string head = "pregate-routes 1\nexperts 3\n";
  EXPECT_THAT(ErrorOf(""), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("pregate-routes 2\n"), HasSubstr("'pregate-routes 1'"));
  EXPECT_THAT(ErrorOf("pregate-routes 1\nexperts 0\n"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("pregate-routes 1\ntext 0\n"), HasSubstr("experts N"));
  EXPECT_THAT(ErrorOf(head), HasSubstr("no routes"));
  EXPECT_THAT(ErrorOf(head + "text \n"), HasSubstr("line 3"));
  EXPECT_THAT(ErrorOf(head + "text 0 3\n"), HasSubstr("0..2"));
  EXPECT_THAT(ErrorOf(head + "text -1\n"), HasSubstr("'-1'"));
  EXPECT_THAT(ErrorOf(head + "text 0*0\n"), HasSubstr("at least 1"));
  EXPECT_THAT(ErrorOf(head + "text 0*x\n"), HasSubstr("at least 1"));
  EXPECT_THAT(ErrorOf(head + "text 0*4194304\ntext 0\n"), HasSubstr("line 4"));
  EXPECT_THAT(ErrorOf(head + "text 0*99999999999\n"), HasSubstr("4194304 tokens"));
  EXPECT_THAT(ErrorOf(head + "nonsense\n"), HasSubstr("nonsense"));
}

}  // namespace
}  // namespace pregate::sim
