// Sends spans to an OpenTelemetry collector over gRPC (OTLP). Nothing waits for it: what a slow or absent
// collector does not take is lost and counted.
//
//   Add, any thread ─▶ mailbox of kTraceQueueRequests ─▶ own thread: one Export of all that waits ─▶ collector
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mailbox.h"
#include "common/config/option_set.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "common/telemetry/trace.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.grpc.pb.h"

namespace pregate {

struct OtlpOptions {
  std::string endpoint;  // empty: no spans
  bool insecure = false;
};
// Declares --otlp-endpoint and --otlp-insecure.
void DeclareOtlpOptions(OptionSet& set, OtlpOptions* options);

// Thread-safe.
class OtlpExporter final : public SpanSink {
 public:
  // Null where there is no endpoint. `service` is the spans' service.name. Exports
  // trace_spans_total{outcome}: sent, dropped (the queue was full), failed (the collector did not take
  // them). `log` and `registry` outlive it. Errors name the option.
  static absl::StatusOr<std::unique_ptr<OtlpExporter>> Start(const OtlpOptions& options,
                                                             const std::string& service,
                                                             MetricsRegistry* registry,
                                                             const Log* log);
  // Sends what waits, for kTraceFlushMsMax at most.
  ~OtlpExporter() override;

  void Add(std::vector<Span> spans) override;

 private:
  using Request = opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest;
  using Stub = opentelemetry::proto::collector::trace::v1::TraceService::Stub;

  OtlpExporter(const std::string& target, const std::string& service, MetricsRegistry* registry,
               const Log* log);
  void Run();
  void Export(const std::vector<std::vector<Span>>& requests, absl::Duration timeout);
  void NoteOutcome(const absl::Status& status);

  const std::string target_, service_;
  const Log* const log_;
  Counter &sent_, &dropped_, &failed_;
  const std::unique_ptr<Stub> stub_;
  bool failing_ = false;  // the last export failed; of the thread
  Mailbox<std::vector<Span>> waiting_;
  std::thread thread_;
};

}  // namespace pregate
