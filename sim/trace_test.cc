#include "sim/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

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
  ASSERT_EQ(trace->requests.size(), 2u);
  EXPECT_EQ(trace->requests[0].arrival, absl::ZeroDuration());
  EXPECT_EQ(trace->requests[1].arrival, absl::Seconds(4));
  EXPECT_EQ(trace->requests[1].prompt_tokens, 396);
  EXPECT_EQ(trace->requests[1].generated_tokens, 109);
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
  EXPECT_THAT(ErrorOf(Row(t + ",5,1001\n")), HasSubstr("within 0..1000"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,99999999999999999999\n")), HasSubstr("GeneratedTokens"));
  EXPECT_THAT(ErrorOf(Row(t + ",5\n")), HasSubstr("line 2, row: 2 fields"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,5,5\n")), HasSubstr("4 fields, the header has 3 columns"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,5\n2023-11-16 18:15:45,1,1\n")),
              HasSubstr("line 3, TIMESTAMP: '2023-11-16 18:15:45', must be no earlier"));
  EXPECT_THAT(ErrorOf(Row(std::string("\x01") + std::string(500, 'z') + ",1,1")),
              HasSubstr("\\x01z"));
  EXPECT_THAT(ErrorOf(Row("\xff,1,1")), HasSubstr("not UTF-8: byte 40 (line 2) is 0xFF"));
  EXPECT_THAT(ErrorOf(Row(",1,1\n")), HasSubstr("line 2, TIMESTAMP: ''"));
  EXPECT_THAT(ErrorOf(Row(t + ",,1\n")), HasSubstr("line 2, ContextTokens: ''"));
  EXPECT_THAT(ErrorOf(Row(t + ",1,\n")), HasSubstr("line 2, GeneratedTokens: ''"));
  EXPECT_THAT(ErrorOf(Row("\"" + t + ",1,1\n")), HasSubstr("line 2: a quote is not closed"));
  EXPECT_THAT(ErrorOf(Row(t + ",5,5\n2099-11-16 18:15:45,1,1\n")),
              HasSubstr("must be within 3660 days of the first"));
}

TEST(TraceTest, AbsurdYearsAreNamed) {
  for (const char* year : {"999999", "-2023", "+2023", "23", "9223372036854775807", "", "20x3"}) {
    EXPECT_THAT(ErrorOf(Row(absl::StrCat(year, "-11-16 18:15:46,1,1\n"))),
                HasSubstr(absl::StrCat("line 2, TIMESTAMP: '", year, "-11")))
        << year;
  }
  EXPECT_EQ(ErrorOf(Row("0001-01-01 00:00:00,1,1\n")), "");
  EXPECT_EQ(ErrorOf(Row("9999-12-31 23:59:59,1,1\n")), "");
}

// Every spelling of three instants, half a second and 40 minutes apart.
TEST(TraceTest, ZonesQuotesMarksAndColumnsDoNotMatter) {
  const std::string rows[] = {
      "2024-05-10 10:00:00,1,2\n2024-05-10 10:00:00.5,3,4\n2024-05-10 10:40:00,5,6\n",
      "2024-05-10 10:00:00.000000+00:00,1,2\n2024-05-10 10:00:00.5000000000000000000000001+00:00"
      ",3,4\n2024-05-10 10:40:00+00:00,5,6\n",
      "2024-05-10T10:00:00Z,1,2\n2024-05-10t10:00:00.50z,3,4\n2024-05-10T10:40:00.0Z,5,6\n",
      "2024-05-10 12:00:00+02:00,1,2\n2024-05-10 15:30:00.5+0530,3,4\n2024-05-10 05:40:00 "
      "-05:00,5,6",
      "\"2024-05-10 10:00:00\",\"1\",\"2\"\n\"2024-05-10 10:00:00.5\",3,4\n\n"
      "2024-05-10 10:40:00,\"5\",6\n\n",
  };
  for (const std::string& row : rows) {
    for (const char* mark : {"", "\xEF\xBB\xBF"}) {
      for (const std::string& csv :
           {mark + Row(row), mark + absl::StrReplaceAll(Row(row), {{"\n", "\r\n"}})}) {
        const auto trace = ParseTrace(csv, 10, 1000);
        ASSERT_TRUE(trace.ok()) << csv << trace.status();
        ASSERT_EQ(trace->requests.size(), 3u) << csv;
        EXPECT_EQ(trace->requests[1].arrival, absl::Milliseconds(500)) << csv;
        EXPECT_EQ(trace->requests[2].arrival, absl::Minutes(40)) << csv;
        EXPECT_EQ(trace->requests[2].prompt_tokens, 5);
        EXPECT_EQ(trace->requests[2].generated_tokens, 6);
      }
    }
  }
}

TEST(TraceTest, TheHeaderSaysWhereTheColumnsAre) {
  const auto trace = ParseTrace(
      "id,GeneratedTokens,\"TIMESTAMP\",ContextTokens\n\"a,b\",7,2024-05-10 10:00:00,9\n", 10,
      1000);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->requests[0].prompt_tokens, 9);
  EXPECT_EQ(trace->requests[0].generated_tokens, 7);
}

TEST(TraceTest, RequestsThatGeneratedNothingAreLeftOutAndCounted) {
  const auto trace = ParseTrace(Row("2024-05-10 10:00:00,90,0\n2024-05-10 10:00:01,5,5\n"
                                    "2024-05-10 10:00:02,0,0\n2024-05-10 10:00:03,6,6\n"),
                                10, 1000);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->failed_requests, 2);
  ASSERT_EQ(trace->requests.size(), 2u);
  EXPECT_EQ(trace->requests[0].arrival, absl::ZeroDuration());
  EXPECT_EQ(trace->requests[1].arrival, absl::Seconds(2));
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
