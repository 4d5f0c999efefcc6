#include "scheduler_service/sim/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace pregate::sim {
namespace {

using testing::HasSubstr;

constexpr char kHeader[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

std::string ErrorOf(const std::string& csv, int64_t requests_max = kTraceRequestsMax + 1) {
  const auto trace = ParseTrace(csv, requests_max, 1000);
  return trace.ok() ? "" : std::string(trace.status().message());
}
std::string Row(const std::string& row) { return std::string(kHeader) + row; }

TEST(TraceTest, ReadsTimesAndCounts) {
  const auto trace = ParseTrace(Row("2023-11-16 18:15:46.6805900,374,44\r\n"
                                    "2023-11-16 18:15:50.6805900,396,109\n"),
                                10, 1000);
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].arrival, absl::ZeroDuration());
  EXPECT_EQ((*trace)[1].arrival, absl::Seconds(4));
  EXPECT_EQ((*trace)[1].prompt_tokens, 396);
  EXPECT_EQ((*trace)[1].generated_tokens, 109);
}

TEST(TraceTest, ErrorsNameLineColumnAndValue) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("line 1, header: ''"));
  EXPECT_THAT(ErrorOf("a,b\n1,2\n"), HasSubstr("line 1, header: 'a,b'"));
  EXPECT_THAT(ErrorOf(kHeader), HasSubstr("no requests"));
  EXPECT_THAT(ErrorOf(Row("x,1,1\n")), HasSubstr("line 2, TIMESTAMP: 'x'"));
  EXPECT_THAT(ErrorOf(Row("infinite-future,1,1\n")), HasSubstr("line 2, TIMESTAMP"));
  const std::string t = "2023-11-16 18:15:46.68";
  EXPECT_THAT(ErrorOf(Row(t + ",-3,1\n")), HasSubstr("line 2, ContextTokens: '-3'"));
  EXPECT_THAT(ErrorOf(Row(t + ",0,1\n")), HasSubstr("ContextTokens: '0'"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,1e3\n")), HasSubstr("GeneratedTokens: '1e3'"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,1001\n")), HasSubstr("1..1000"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,99999999999999999999\n")), HasSubstr("GeneratedTokens"));
  EXPECT_THAT(ErrorOf(Row(t + ",5\n")), HasSubstr("line 2, row"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,5,5\n")), HasSubstr("three columns"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,5\n2023-11-16 18:15:45,1,1\n")),
              HasSubstr("line 3, TIMESTAMP: '2023-11-16 18:15:45', must be no earlier"));
  EXPECT_THAT(ErrorOf(Row(std::string("\x01\xff") + std::string(500, 'z') + ",1,1")),
              HasSubstr("\\x01\\xffz"));
}

TEST(TraceTest, RowsAreLimitedAndWhatIsNotAskedForIsNotRead) {
  const std::string row = "2023-11-16 18:15:46,1,1\n";
  std::string csv = kHeader;
  for (int64_t i = 0; i < kTraceRequestsMax; ++i) csv += row;
  EXPECT_EQ(ErrorOf(csv), "");
  EXPECT_THAT(ErrorOf(csv + row), HasSubstr("more than 1000000 requests"));
  EXPECT_EQ(ErrorOf(Row(row + "nonsense\n"), 1), "");
}

}  // namespace
}  // namespace pregate::sim
