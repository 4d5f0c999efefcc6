#include "common/rpc/otlp_exporter.h"

#include <grpcpp/server_builder.h>

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

namespace otlp = opentelemetry::proto::collector::trace::v1;
using ::testing::HasSubstr;

// A collector on loopback. `hold` makes it answer nothing until it is notified.
class Collector final : public otlp::TraceService::Service {
 public:
  explicit Collector(absl::Notification* hold = nullptr) : hold_(hold) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Collector() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status Export(grpc::ServerContext*, const otlp::ExportTraceServiceRequest* request,
                      otlp::ExportTraceServiceResponse* response) override {
    if (hold_ != nullptr) hold_->WaitForNotification();
    absl::MutexLock lock(&mutex_);
    for (const auto& resource : request->resource_spans()) {
      for (const auto& scope : resource.scope_spans()) {
        for (const auto& span : scope.spans()) spans_.push_back(span);
      }
    }
    last_ = *request;
    response->mutable_partial_success()->set_rejected_spans(rejects_);
    return answer_;
  }

  std::vector<otlp::Span> AwaitSpans(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return spans_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
    return spans_;
  }
  otlp::ExportTraceServiceRequest last() {
    absl::MutexLock lock(&mutex_);
    return last_;
  }
  void Answer(const grpc::Status& status, int64_t rejects = 0) {
    absl::MutexLock lock(&mutex_);
    answer_ = status;
    rejects_ = rejects;
  }

 private:
  absl::Notification* const hold_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  std::vector<otlp::Span> spans_;
  otlp::ExportTraceServiceRequest last_;
  grpc::Status answer_;
  int64_t rejects_ = 0;
};

Span MakeSpan(const std::string& name) {
  return {.trace_id = MakeTraceId(1, 2),
          .id = MakeSpanId(3),
          .name = name,
          .start = absl::FromUnixMillis(1500),
          .end = absl::FromUnixMillis(1750),
          .attributes = {{"text", std::string("a")}, {"number", int64_t{7}}, {"share", 0.5}},
          .failed = true};
}

class OtlpExporterTest : public ::testing::Test {
 protected:
  std::unique_ptr<OtlpExporter> Start(const std::string& endpoint) {
    auto exporter = OtlpExporter::Start({.endpoint = endpoint}, "a service", &registry_, &log_);
    EXPECT_TRUE(exporter.ok()) << exporter.status();
    return *std::move(exporter);
  }
  double Count(const std::string& outcome) {
    return registry_
        .AddCounter("trace_spans_total", "Spans for the collector, by what became of them",
                    {{"outcome", outcome}})
        .Value();
  }
  bool Await(const std::string& outcome, double count) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (Count(outcome) < count && absl::Now() < end) absl::SleepFor(absl::Milliseconds(5));
    return Count(outcome) == count;
  }
  bool AwaitLine(const std::string& part) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] { return absl::StrContains(lines_, part); };
    return mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(20));
  }

  MetricsRegistry registry_{"m"};
  absl::Mutex mutex_;
  std::string lines_;
  Log log_{"test", {}, [this](absl::string_view line) {
             absl::MutexLock lock(&mutex_);
             absl::StrAppend(&lines_, line, "\n");
           }};
};

TEST_F(OtlpExporterTest, SpansArriveWhole) {
  Collector collector;
  const auto exporter = Start(collector.address());
  Span child = MakeSpan("child");
  child.parent = MakeSpanId(9);
  exporter->Add({MakeSpan("call"), child});
  const auto spans = collector.AwaitSpans(2);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].name(), "call");
  EXPECT_EQ(spans[0].trace_id(), std::string("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\3", 16));
  EXPECT_EQ(spans[0].span_id().size(), 8u);
  EXPECT_EQ(spans[0].parent_span_id(), "");
  EXPECT_EQ(spans[1].parent_span_id().back(), 9);
  EXPECT_EQ(spans[0].start_time_unix_nano(), 1500000000u);
  EXPECT_EQ(spans[0].end_time_unix_nano(), 1750000000u);
  ASSERT_EQ(spans[0].attributes_size(), 3);
  EXPECT_EQ(spans[0].attributes(0).value().string_value(), "a");
  EXPECT_EQ(spans[0].attributes(1).value().int_value(), 7);
  EXPECT_EQ(spans[0].attributes(2).value().double_value(), 0.5);
  EXPECT_EQ(spans[0].status().code(), otlp::STATUS_CODE_ERROR);
  const auto resource = collector.last().resource_spans(0).resource();
  EXPECT_EQ(resource.attributes(0).key(), "service.name");
  EXPECT_EQ(resource.attributes(0).value().string_value(), "a service");
  EXPECT_TRUE(Await("sent", 2));
}

TEST_F(OtlpExporterTest, ASlowCollectorHoldsUpNobodyAndWhatItLosesIsCounted) {
  absl::Notification go;
  Collector collector(&go);
  auto exporter = Start(collector.address());
  constexpr int kMany = 3 * kTraceQueueRequests;
  for (int i = 0; i < kMany; ++i) exporter->Add({MakeSpan("a"), MakeSpan("b")});
  // One batch is on its way, one queue waits.
  EXPECT_GE(Count("dropped"), 2 * (kMany - 2 * kTraceQueueRequests));
  EXPECT_LE(Count("dropped"), 2 * (kMany - kTraceQueueRequests));
  go.Notify();
  EXPECT_TRUE(Await("sent", 2 * kMany - Count("dropped") - Count("failed")));
}

TEST_F(OtlpExporterTest, ACollectorThatIsAbsentOrRefusesIsSaidOnceAndFoundAgain) {
  Collector collector;
  const auto exporter = Start(collector.address());
  collector.Answer(grpc::Status(grpc::StatusCode::UNAVAILABLE, "full"));
  for (int i = 1; i <= 3; ++i) {
    exporter->Add({MakeSpan("a")});
    ASSERT_TRUE(Await("failed", i));
  }
  collector.Answer(grpc::Status::OK, /*rejects=*/1);
  exporter->Add({MakeSpan("a"), MakeSpan("b")});
  EXPECT_TRUE(Await("sent", 1));
  EXPECT_TRUE(Await("failed", 4));
  EXPECT_TRUE(AwaitLine("takes spans again"));
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(lines_.find("takes no spans"), lines_.rfind("takes no spans"));
}

TEST_F(OtlpExporterTest, TheEndSendsWhatWaits) {
  Collector collector;
  {
    const auto exporter = Start(collector.address());
    for (int i = 0; i < 100; ++i) exporter->Add({MakeSpan("a")});
  }
  EXPECT_EQ(collector.AwaitSpans(100).size(), 100u);
}

TEST_F(OtlpExporterTest, TheEndDoesNotWaitForACollectorThatIsStuck) {
  absl::Notification go;
  Collector collector(&go);
  const absl::Time begun = absl::Now();
  {
    const auto exporter = Start(collector.address());
    exporter->Add({MakeSpan("a")});
  }
  EXPECT_LT(absl::Now() - begun, absl::Seconds(15));
  go.Notify();
}

TEST_F(OtlpExporterTest, PlaintextStaysOnThisMachineUnlessAskedFor) {
  EXPECT_EQ(Start(""), nullptr);
  const auto start = [&](const OtlpOptions& options) {
    return OtlpExporter::Start(options, "s", &registry_, &log_).status();
  };
  EXPECT_THAT(start({.endpoint = "collector.example:4317"}).message(),
              HasSubstr("--otlp-insecure"));
  EXPECT_THAT(start({.endpoint = "http://127.0.0.1:4317"}).message(), HasSubstr("--otlp-endpoint"));
  EXPECT_TRUE(start({.endpoint = "192.0.2.1:4317", .insecure = true}).ok());
}

}  // namespace
}  // namespace pregate
