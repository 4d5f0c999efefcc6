#include "common/telemetry/trace_log.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

class Collected final : public SpanSink {
 public:
  void Add(std::vector<Span> more) override { spans.insert(spans.end(), more.begin(), more.end()); }
  std::vector<Span> spans;
};

TracedWork Work(const std::string& traceparent) {
  return {.traceparent = traceparent,
          .seq_id = 7,
          .tokens = 20,
          .start = absl::FromUnixSeconds(5),
          .end = absl::FromUnixSeconds(5) + absl::Milliseconds(12.5)};
}

class TraceLogTest : public ::testing::Test {
 protected:
  std::string out_;
  const Log log_{"test", {}, [this](absl::string_view line) { absl::StrAppend(&out_, line); }};
  Collected spans_;
};

TEST_F(TraceLogTest, ASampledTraceHasALineAndASpanUnderTheCall) {
  TraceLog("routed", &log_, &spans_)
      .Add(Work("00-" + std::string(kTrace) + "-00f067aa0ba902b7-01"));
  EXPECT_THAT(out_, HasSubstr("routed trace_id=\"" + std::string(kTrace) +
                              "\" seq_id=7 tokens=20 ms=12.5"));
  ASSERT_EQ(spans_.spans.size(), 1u);
  const Span& span = spans_.spans[0];
  EXPECT_EQ(TraceIdText(span.trace_id), kTrace);
  EXPECT_EQ(span.parent, MakeSpanId(0x00f067aa0ba902b7));
  EXPECT_EQ(span.name, "routed");
  EXPECT_EQ(span.end - span.start, absl::Milliseconds(12.5));
}

TEST_F(TraceLogTest, OneNotSampledHasTheLineAloneAndOneThatIsNoneHasNothing) {
  TraceLog log("routed", &log_, &spans_);
  log.Add(Work(""));
  log.Add(Work("nonsense"));
  EXPECT_EQ(out_, "");
  log.Add(Work("00-" + std::string(kTrace) + "-00f067aa0ba902b7-00"));
  EXPECT_THAT(out_, HasSubstr(kTrace));
  EXPECT_TRUE(spans_.spans.empty());
}

TEST_F(TraceLogTest, WithoutACollectorThereIsTheLine) {
  TraceLog("routed", &log_, nullptr)
      .Add(Work("00-" + std::string(kTrace) + "-00f067aa0ba902b7-01"));
  EXPECT_THAT(out_, HasSubstr(kTrace));
}

}  // namespace
}  // namespace pregate
