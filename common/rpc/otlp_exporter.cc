#include "common/rpc/otlp_exporter.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/rpc/status.h"

namespace pregate {
namespace {

namespace otlp = opentelemetry::proto::collector::trace::v1;

template <size_t kBytes>
std::string Bytes(const std::array<uint8_t, kBytes>& id) {
  return std::string(id.begin(), id.end());
}

void AddAttribute(const std::string& key, const Span::Value& value, otlp::KeyValue* out) {
  out->set_key(key);
  if (const auto* text = std::get_if<std::string>(&value)) {
    out->mutable_value()->set_string_value(*text);
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    out->mutable_value()->set_int_value(*number);
  } else {
    out->mutable_value()->set_double_value(std::get<double>(value));
  }
}

void Encode(const Span& span, otlp::Span* out) {
  out->set_trace_id(Bytes(span.trace_id));
  out->set_span_id(Bytes(span.id));
  if (span.parent != SpanId{}) out->set_parent_span_id(Bytes(span.parent));
  out->set_name(span.name);
  out->set_kind(span.is_server ? otlp::SPAN_KIND_SERVER : otlp::SPAN_KIND_INTERNAL);
  out->set_start_time_unix_nano(static_cast<uint64_t>(absl::ToUnixNanos(span.start)));
  out->set_end_time_unix_nano(static_cast<uint64_t>(absl::ToUnixNanos(span.end)));
  for (const auto& [key, value] : span.attributes) {
    AddAttribute(key, value, out->add_attributes());
  }
  if (span.failed) out->mutable_status()->set_code(otlp::STATUS_CODE_ERROR);
}

Counter& Outcome(MetricsRegistry* registry, const std::string& outcome) {
  return registry->AddCounter("trace_spans_total",
                              "Spans for the collector, by what became of them",
                              {{"outcome", outcome}});
}

}  // namespace

void DeclareOtlpOptions(OptionSet& set, OtlpOptions* options) {
  set.Group("Traces");
  set.String(
      "otlp-endpoint", &options->endpoint,
      "Send a trace's spans to this OpenTelemetry collector (OTLP over gRPC, HOST:4317); empty: "
      "none. In plaintext: on this machine, or with --otlp-insecure");
  set.Switch("otlp-insecure", &options->insecure,
             "Let spans (ids, tenants, times; never text) leave this machine in plaintext");
  set.Group();
}

absl::StatusOr<std::unique_ptr<OtlpExporter>> OtlpExporter::Start(const OtlpOptions& options,
                                                                  const std::string& service,
                                                                  MetricsRegistry* registry,
                                                                  const Log* log) {
  if (options.endpoint.empty()) return nullptr;
  ASSIGN_OR_RETURN(const Address address,
                   ParseAddressOption("otlp-endpoint", options.endpoint, /*encrypted=*/true));
  if (!options.insecure && !StaysOnThisMachine(address)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--otlp-endpoint: ", options.endpoint,
        " is another machine, and spans are not encrypted: use a collector on this one, or say "
        "--otlp-insecure"));
  }
  return std::unique_ptr<OtlpExporter>(
      new OtlpExporter(address.ToString(), service, registry, log));
}

OtlpExporter::OtlpExporter(const std::string& target, const std::string& service,
                           MetricsRegistry* registry, const Log* log)
    : target_(target),
      service_(service),
      log_(log),
      sent_(Outcome(registry, "sent")),
      dropped_(Outcome(registry, "dropped")),
      failed_(Outcome(registry, "failed")),
      stub_(otlp::TraceService::NewStub(
          grpc::CreateChannel(target, grpc::InsecureChannelCredentials()))),
      waiting_(kTraceQueueRequests),
      thread_([this] { Run(); }) {}

OtlpExporter::~OtlpExporter() {
  waiting_.Close();
  thread_.join();
}

void OtlpExporter::Add(std::vector<Span> spans) {
  const auto count = static_cast<double>(spans.size());
  if (!waiting_.Push(std::move(spans))) dropped_.Increment(count);
}

// What arrives during an export waits for the next: the slower the collector, the larger the batches.
void OtlpExporter::Run() {
  while (true) {
    const auto requests = waiting_.Wait(absl::InfiniteDuration());
    const bool ends = waiting_.closed();
    if (requests.empty() && ends) return;
    if (!requests.empty()) {
      Export(requests, absl::Milliseconds(ends ? kTraceFlushMsMax : kTraceExportMsMax));
    }
  }
}

void OtlpExporter::Export(const std::vector<std::vector<Span>>& requests, absl::Duration timeout) {
  Request message;
  otlp::ResourceSpans* const all = message.add_resource_spans();
  AddAttribute("service.name", service_, all->mutable_resource()->add_attributes());
  AddAttribute("service.version", Version(), all->mutable_resource()->add_attributes());
  otlp::ScopeSpans* const scope = all->add_scope_spans();
  scope->mutable_scope()->set_name("pregate");
  for (const auto& spans : requests) {
    for (const Span& span : spans) Encode(span, scope->add_spans());
  }
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  otlp::ExportTraceServiceResponse response;
  const absl::Status status = FromGrpcStatus(stub_->Export(&context, message, &response));
  const double count = scope->spans_size();
  const double rejected = std::min(count, static_cast<double>(std::max<int64_t>(
                                              0, response.partial_success().rejected_spans())));
  sent_.Increment(status.ok() ? count - rejected : 0);
  failed_.Increment(status.ok() ? rejected : count);
  NoteOutcome(status);
}

void OtlpExporter::NoteOutcome(const absl::Status& status) {
  if (failing_ == !status.ok()) return;
  failing_ = !status.ok();
  if (failing_) {
    log_->Warn("the collector takes no spans",
               {{"endpoint", target_}, {"reason", status.ToString()}});
  } else {
    log_->Info("the collector takes spans again", {{"endpoint", target_}});
  }
}

}  // namespace pregate
