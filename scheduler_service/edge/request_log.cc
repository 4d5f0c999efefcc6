#include "scheduler_service/edge/request_log.h"

#include <cmath>
#include <utility>

#include "common/base/process.h"

namespace pregate {

RequestIdentity RequestLog::Identify(std::string request_id, std::string tenant,
                                     absl::string_view traceparent) const {
  RequestIdentity identity{std::move(request_id), std::move(tenant), ParseTraceparent(traceparent)};
  if (!identity.trace && spans_ != nullptr) {
    identity.trace = {.trace_id = MakeTraceId(RandomId(), RandomId()), .sampled = true};
  }
  if (identity.trace && spans_ != nullptr) identity.span = MakeSpanId(RandomId());
  return identity;
}

void RequestLog::Add(const RequestIdentity& request, const absl::Status& status,
                     const DoneInfo& done) {
  WriteLine(request, status, done);
  if (spans_ != nullptr && request.trace->sampled) {
    spans_->Add(RequestSpans(request, status, done, clock_->Now(), RandomId));
  }
}

void RequestLog::WriteLine(const RequestIdentity& request, const absl::Status& status,
                           const DoneInfo& done) {
  int64_t left_out = 0;
  if (!lines_.Take(clock_->Now(), &left_out)) return;
  if (left_out > 0) log_->Info("requests without a line", {{"count", left_out}});
  const bool generated = done.generated_tokens > 0;
  const bool has_gap = done.token_gap > absl::ZeroDuration();
  log_->Info("request",
             {{"id", request.request_id},
              {"tenant", request.tenant},
              {"trace_id", request.trace ? TraceIdText(request.trace->trace_id) : ""},
              {"prompt_tokens", done.prompt_tokens},
              {"generated_tokens", done.generated_tokens},
              {"ttft_ms", generated ? RequestLines::Milliseconds(done.ttft) : std::nan("")},
              {"itl_ms", has_gap ? RequestLines::Milliseconds(done.token_gap) : std::nan("")},
              {"queue_ms", RequestLines::Milliseconds(done.queue_time)},
              {"total_ms", RequestLines::Milliseconds(done.total)},
              {"finish", done.status.ok() ? FinishReasonName(done.reason) : ""},
              {"status", absl::StatusCodeToString(status.code())},
              {"reason", RequestLines::Reason(status)}});
}

}  // namespace pregate
