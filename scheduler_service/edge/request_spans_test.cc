#include "scheduler_service/edge/request_spans.h"

#include "common/base/clock.h"
#include "common/telemetry/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler_service/edge/request_log.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;

constexpr absl::Duration kMs = absl::Milliseconds(1);

class Collected final : public SpanSink {
 public:
  void Add(std::vector<Span> more) override { spans.insert(spans.end(), more.begin(), more.end()); }
  std::vector<Span> spans;
};

std::vector<std::string> Names(const std::vector<Span>& spans) {
  std::vector<std::string> names;
  for (const Span& span : spans) names.push_back(span.name);
  return names;
}

class RequestSpansTest : public ::testing::Test {
 protected:
  std::vector<Span> Make(const absl::Status& status, const DoneInfo& done) {
    return RequestSpans(request_, status, done, end_, [this] { return ++random_; });
  }

  const RequestIdentity request_{
      .request_id = "mine",
      .tenant = "a tenant",
      .trace = *ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
      .span = MakeSpanId(99)};
  const absl::Time end_ = absl::FromUnixSeconds(1000);
  uint64_t random_ = 0;
};

TEST_F(RequestSpansTest, PartsAreChildrenOfTheCallAndLieInIt) {
  const auto spans = Make(absl::OkStatus(), {.prompt_tokens = 7,
                                             .generated_tokens = 3,
                                             .queue_time = 5 * kMs,
                                             .route_time = 12 * kMs,
                                             .ttft = 40 * kMs,
                                             .total = 100 * kMs,
                                             .first_row = 15 * kMs});
  ASSERT_THAT(Names(spans),
              ElementsAre("pregate.v1.Inference/Generate", "route", "queue", "prefill", "decode"));
  const Span& call = spans[0];
  EXPECT_TRUE(call.is_server);
  EXPECT_EQ(call.parent, request_.trace->parent);
  EXPECT_EQ(call.start, end_ - 100 * kMs);
  EXPECT_EQ(call.end, end_);
  const std::pair<int, int> kFromTo[] = {{0, 100}, {0, 12}, {10, 15}, {15, 40}, {40, 100}};
  for (size_t i = 0; i < spans.size(); ++i) {
    SCOPED_TRACE(spans[i].name);
    EXPECT_EQ(spans[i].trace_id, request_.trace->trace_id);
    EXPECT_EQ(spans[i].start, call.start + kFromTo[i].first * kMs);
    EXPECT_EQ(spans[i].end, call.start + kFromTo[i].second * kMs);
    if (i > 0) {
      EXPECT_EQ(spans[i].parent, call.id);
    }
    EXPECT_FALSE(spans[i].failed);
  }
  EXPECT_THAT(call.attributes, ::testing::Contains(std::pair<std::string, Span::Value>(
                                   "gen_ai.usage.input_tokens", int64_t{7})));
}

TEST_F(RequestSpansTest, WhatWasRefusedIsTheCallAlone) {
  const auto status = absl::InvalidArgumentError("max_tokens is -3");
  const auto spans = Make(status, {.status = status});
  ASSERT_THAT(Names(spans), ElementsAre("pregate.v1.Inference/Generate"));
  EXPECT_TRUE(spans[0].failed);
  for (const auto& [key, value] : spans[0].attributes) {
    if (const auto* text = std::get_if<std::string>(&value)) {
      EXPECT_EQ(text->find("-3"), std::string::npos) << "what a client sent is in no trace";
    }
  }
}

TEST_F(RequestSpansTest, WhatEndedInTheQueueHasNoLaterParts) {
  const auto status = absl::CancelledError("");
  EXPECT_THAT(Names(Make(status, {.status = status, .route_time = 3 * kMs, .total = 9 * kMs})),
              ElementsAre("pregate.v1.Inference/Generate", "route"));
}

class RequestLogSpansTest : public ::testing::Test {
 protected:
  Log log_{"test", {}, [](absl::string_view) {}};
  SystemClock clock_;
  Collected collected_;
  RequestLog requests_{&log_, &clock_, &collected_};
};

TEST_F(RequestLogSpansTest, ACallWithoutATraceBeginsOne) {
  const auto one = requests_.Identify("a", "", ""), two = requests_.Identify("b", "", "");
  ASSERT_TRUE(one.trace && two.trace);
  EXPECT_NE(one.trace->trace_id, two.trace->trace_id);
  requests_.Add(one, absl::OkStatus(), {});
  ASSERT_EQ(collected_.spans.size(), 1u);
  EXPECT_EQ(collected_.spans[0].parent, SpanId{});
}

TEST_F(RequestLogSpansTest, ATraceThatIsNotSampledHasNoSpans) {
  const auto request =
      requests_.Identify("a", "", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
  requests_.Add(request, absl::OkStatus(), {});
  EXPECT_TRUE(collected_.spans.empty());
}

TEST_F(RequestLogSpansTest, SpansAreNotHeldToTheRateOfLines) {
  for (int i = 0; i < 3000; ++i)
    requests_.Add(requests_.Identify("a", "", ""), absl::OkStatus(), {});
  EXPECT_EQ(collected_.spans.size(), 3000u);
}

}  // namespace
}  // namespace pregate
