#include "common/config/values.h"

#include "gtest/gtest.h"

namespace pregate {
namespace {

TEST(ParseBytesTest, TakesBinaryAndDecimalUnitsInAnyCase) {
  EXPECT_EQ(*ParseBytes("0"), 0);
  EXPECT_EQ(*ParseBytes("1048576"), 1 << 20);
  EXPECT_EQ(*ParseBytes("512MiB"), 512 << 20);
  EXPECT_EQ(*ParseBytes(" 2 gib "), int64_t{2} << 30);
  EXPECT_EQ(*ParseBytes("3kB"), 3000);
  EXPECT_EQ(*ParseBytes("7b"), 7);
}

TEST(ParseBytesTest, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "MiB", "-1MiB", "1.5GiB", "1 parsec", "0x10", "9000000TiB", "1MiBB"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(FormatBytesTest, ParsesBackEqual) {
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1023}, int64_t{1024}, int64_t{1536},
                              int64_t{5} << 40, int64_t{123456789}}) {
    EXPECT_EQ(*ParseBytes(FormatBytes(bytes)), bytes) << FormatBytes(bytes);
  }
  EXPECT_EQ(FormatBytes(512 << 20), "512MiB");
}

TEST(ParseCountTest, TakesThousandsAndMillionsInEitherCase) {
  EXPECT_EQ(*ParseCount("0"), 0);
  EXPECT_EQ(*ParseCount("4096"), 4096);
  EXPECT_EQ(*ParseCount("200k"), 200'000);
  EXPECT_EQ(*ParseCount(" 5 M "), 5'000'000);
  EXPECT_EQ(*ParseCount("1.5M"), 1'500'000);
  EXPECT_EQ(*ParseCount("1.000001m"), 1'000'001);
  EXPECT_EQ(*ParseCount("0.25K"), 250);
  EXPECT_EQ(*ParseCount("1.0"), 1);
}

TEST(ParseCountTest, RefusesWhatIsNoWholeNumber) {
  for (const char* text : {"", "k", "-1k", "-0.5k", "+1", "1.5", "1.0005k", "1.k", ".5M", "1e6",
                           "5G", "5kM", "1.-5k", "1.5.5M", "9300000000000M", "0x10"}) {
    EXPECT_FALSE(ParseCount(text).ok()) << text;
  }
}

TEST(FormatCountTest, ParsesBackEqual) {
  for (const int64_t count : {int64_t{0}, int64_t{999}, int64_t{1500}, int64_t{2'000'000'000}}) {
    EXPECT_EQ(*ParseCount(FormatCount(count)), count) << FormatCount(count);
  }
  EXPECT_EQ(FormatCount(200'000), "200k");
}

TEST(FormatDoubleTest, ParsesBackEqualAndReads) {
  for (const double value : {0.0, 0.1, -2.5, 1e9, 1e14, 1e-6, 1e300, 5e-324, 0.12345678901234567}) {
    EXPECT_EQ(*ParseDouble(FormatDouble(value)), value) << FormatDouble(value);
  }
  EXPECT_EQ(FormatDouble(1e9), "1000000000");
  EXPECT_EQ(FormatDouble(30), "30");
  EXPECT_EQ(FormatDouble(0.75), "0.75");
}

TEST(ParseBoolTest, TakesUsualWordsOnly) {
  EXPECT_TRUE(*ParseBool("On"));
  EXPECT_FALSE(*ParseBool("0"));
  EXPECT_FALSE(ParseBool("maybe").ok());
}

}  // namespace
}  // namespace pregate
