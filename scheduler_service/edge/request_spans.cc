#include "scheduler_service/edge/request_spans.h"

#include <algorithm>

namespace pregate {
namespace {

// Names of OpenTelemetry's conventions where there are such.
std::vector<std::pair<std::string, Span::Value>> Attributes(const RequestIdentity& request,
                                                            const absl::Status& status,
                                                            const DoneInfo& done) {
  std::vector<std::pair<std::string, Span::Value>> out = {
      {"rpc.system", std::string("grpc")},
      {"rpc.grpc.status_code", int64_t{static_cast<int>(status.code())}},
      {"pregate.request_id", request.request_id},
      {"pregate.tenant", request.tenant},
      {"gen_ai.usage.input_tokens", int64_t{done.prompt_tokens}},
      {"gen_ai.usage.output_tokens", int64_t{done.generated_tokens}},
      {"pregate.cached_tokens", int64_t{done.cached_tokens}},
      {"pregate.preemptions", int64_t{done.preemptions}},
  };
  if (done.status.ok()) {
    out.emplace_back("gen_ai.response.finish_reason", std::string(FinishReasonName(done.reason)));
  }
  return out;
}

}  // namespace

std::string RequestIdentity::Traceparent() const {
  if (!trace) return "";
  TraceContext context = *trace;
  if (span != SpanId{}) context.parent = span;
  return pregate::Traceparent(context);
}

std::vector<Span> RequestSpans(const RequestIdentity& request, const absl::Status& status,
                               const DoneInfo& done, absl::Time end,
                               const std::function<uint64_t()>& random) {
  const absl::Time begin = end - done.total;
  std::vector<Span> spans(1);
  Span& call = spans.front();
  call = {.trace_id = request.trace->trace_id,
          .id = request.span,
          .parent = request.trace->parent,
          .name = "pregate.v1.Inference/Generate",
          .is_server = true,
          .start = begin,
          .end = end,
          .attributes = Attributes(request, status, done),
          .failed = !status.ok()};
  const SpanId parent = call.id;
  const auto part = [&](const char* name, absl::Duration from, absl::Duration to) {
    if (to <= absl::ZeroDuration() || to < from) return;
    spans.push_back({.trace_id = request.trace->trace_id,
                     .id = MakeSpanId(random()),
                     .parent = parent,
                     .name = name,
                     .start = begin + from,
                     .end = begin + to});
  };
  part("route", absl::ZeroDuration(), done.route_time);
  part("queue", std::max(absl::ZeroDuration(), done.first_row - done.queue_time), done.first_row);
  if (done.generated_tokens > 0) {
    part("prefill", done.first_row, done.ttft);
    part("decode", done.ttft, done.total);
  }
  return spans;
}

}  // namespace pregate
