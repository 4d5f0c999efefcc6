#include "common/telemetry/trace.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

TEST(TraceTest, ParsesWhatTheStandardShows) {
  const auto context = ParseTraceparent(absl::StrCat("00-", kTrace, "-", kParent, "-01"));
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(TraceIdText(context->trace_id), kTrace);
  EXPECT_EQ(context->parent, (SpanId{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}));
  EXPECT_TRUE(context->sampled);
}

TEST(TraceTest, TheLowestFlagSaysWhetherItIsSampled) {
  for (const auto& [flags, sampled] :
       {std::pair("00", false), {"01", true}, {"02", false}, {"03", true}}) {
    const auto context = ParseTraceparent(absl::StrCat("00-", kTrace, "-", kParent, "-", flags));
    ASSERT_TRUE(context.has_value()) << flags;
    EXPECT_EQ(context->sampled, sampled) << flags;
  }
}

TEST(TraceTest, ALaterVersionMayAddToIt) {
  EXPECT_TRUE(ParseTraceparent(absl::StrCat("01-", kTrace, "-", kParent, "-01-more")).has_value());
  EXPECT_TRUE(ParseTraceparent(absl::StrCat("cc-", kTrace, "-", kParent, "-01")).has_value());
  EXPECT_FALSE(ParseTraceparent(absl::StrCat("01-", kTrace, "-", kParent, "-01more")).has_value());
}

TEST(TraceTest, WhatIsOfAnotherFormIsNone) {
  const std::string zero_trace(32, '0'), zero_parent(16, '0');
  for (const std::string& header : {
           std::string(),
           std::string("00"),
           absl::StrCat("ff-", kTrace, "-", kParent, "-01"),
           absl::StrCat("00-", kTrace, "-", kParent),
           absl::StrCat("00-", kTrace, "-", kParent, "-1"),
           absl::StrCat("00-", kTrace, "-", kParent, "-01-more"),
           absl::StrCat("00-", kTrace, "_", kParent, "-01"),
           absl::StrCat("00-", zero_trace, "-", kParent, "-01"),
           absl::StrCat("00-", kTrace, "-", zero_parent, "-01"),
           absl::StrCat("00-4BF92F3577B34DA6A3CE929D0E0E4736-", kParent, "-01"),
           absl::StrCat("0x-", kTrace, "-", kParent, "-01"),
           absl::StrCat("00-", kTrace, "-", kParent, "-0g"),
       }) {
    EXPECT_FALSE(ParseTraceparent(header).has_value()) << header;
  }
}

// It comes from outside.
TEST(TraceTest, AnyBytesAreParsedOrNot) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const std::string good = absl::StrCat("00-", kTrace, "-", kParent, "-01");
  for (int i = 0; i < 20000; ++i) {
    std::string header = good;
    for (int changes = random() % 4; changes >= 0; --changes) {
      header[random() % header.size()] = static_cast<char>(random());
    }
    header.resize(random() % 2 == 0 ? header.size() : random() % 80, '-');
    const auto context = ParseTraceparent(header);
    if (context) {
      EXPECT_EQ(header.substr(3, 32), TraceIdText(context->trace_id));
    }
  }
}

TEST(TraceTest, AHeaderThatIsWrittenIsRead) {
  for (const char* flags : {"-00", "-01"}) {
    const std::string header = absl::StrCat("00-", kTrace, "-", kParent, flags);
    EXPECT_EQ(Traceparent(*ParseTraceparent(header)), header);
  }
}

TEST(TraceTest, DrawnIdsAreNeverZero) {
  EXPECT_NE(MakeTraceId(0, 0), TraceId{});
  EXPECT_NE(MakeSpanId(0), SpanId{});
  EXPECT_EQ(TraceIdText(MakeTraceId(0x4bf92f3577b34da6, 0xa3ce929d0e0e4737)),
            "4bf92f3577b34da6a3ce929d0e0e4737");
}

}  // namespace
}  // namespace pregate
