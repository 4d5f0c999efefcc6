#include "sim/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The records as "line|field|field"; an error as its message.
std::vector<std::string> Read(std::string_view text) {
  std::vector<std::string> out;
  CsvReader csv(text);
  while (true) {
    const auto more = csv.Next();
    if (!more.ok()) out.emplace_back(more.status().message());
    if (!more.ok() || !*more) return out;
    std::string record = std::to_string(csv.line());
    for (const std::string& field : csv.fields()) record += "|" + field;
    out.push_back(record);
  }
}

TEST(CsvTest, RecordsFieldsAndLineEnds) {
  EXPECT_THAT(Read(""), ElementsAre());
  EXPECT_THAT(Read("\n\r\n"), ElementsAre());
  EXPECT_THAT(Read("a,b\r\n\n,\nc"), ElementsAre("1|a|b", "3||", "4|c"));
  EXPECT_THAT(Read("a\rb, c "), ElementsAre("1|a\rb| c "));
}

TEST(CsvTest, QuotedFields) {
  EXPECT_THAT(Read("\"a,b\",\"c\"\r\nd"), ElementsAre("1|a,b|c", "2|d"));
  EXPECT_THAT(Read("\"say \"\"a\"\"\",\"\"\n"), ElementsAre("1|say \"a\"|"));
  EXPECT_THAT(Read("\"two\nlines\"\nx"), ElementsAre("1|two\nlines", "3|x"));
  EXPECT_THAT(Read("a\"b\"c"), ElementsAre("1|a\"b\"c"));
}

TEST(CsvTest, ErrorsNameTheLine) {
  EXPECT_THAT(Read("a\n\"b"), ElementsAre("1|a", HasSubstr("line 2: a quote is not closed")));
  EXPECT_THAT(Read("\"a\"b"), ElementsAre(HasSubstr("line 1: text follows a closing quote")));
  EXPECT_THAT(Read(std::string(100, ',')), ElementsAre(HasSubstr("more than 64 fields")));
}

}  // namespace
}  // namespace pregate::sim
