// One line a request, when it is over, and its spans where someone collects them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/telemetry/log.h"
#include "common/telemetry/request_lines.h"
#include "common/telemetry/trace.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/edge/request_spans.h"

namespace pregate {

// At most kRequestLinesMax lines a second: the rest are counted in the next line. Thread-safe.
class RequestLog {
 public:
  // All outlive it; `spans` is null where nobody collects them.
  RequestLog(const Log* log, Clock* clock, SpanSink* spans = nullptr)
      : log_(log), clock_(clock), spans_(spans) {}

  // Of a call with this `traceparent` header (empty: none). Where spans are collected, a call without
  // one begins a trace of its own.
  RequestIdentity Identify(std::string request_id, std::string tenant,
                           absl::string_view traceparent) const;

  // `status` is the client's, which may be another than the engine's in `done`. A request that
  // never reached the engine has a `done` of nothing but that status.
  void Add(const RequestIdentity& request, const absl::Status& status, const DoneInfo& done);

 private:
  void WriteLine(const RequestIdentity& request, const absl::Status& status, const DoneInfo& done);

  const Log* const log_;
  Clock* const clock_;
  SpanSink* const spans_;
  RequestLines lines_;
};

}  // namespace pregate
