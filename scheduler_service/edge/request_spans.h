// A request's spans: the call, and of its life on the server the parts queue, route, prefill and decode.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/telemetry/trace.h"
#include "scheduler_service/core/request.h"

namespace pregate {

// What a log line and spans name a request by.
struct RequestIdentity {
  std::string request_id, tenant;
  std::optional<TraceContext> trace;  // of the caller's header, or drawn here
  SpanId span = {};                   // the call's own, where it gets one

  // For those who work for the call; empty: of no trace.
  std::string Traceparent() const;
};

// The call's span first, then those parts that it had, as its children; route and queue overlap, since
// what is routed may run. `end` is now; `random` gives 64 fresh bits.
std::vector<Span> RequestSpans(const RequestIdentity& request, const absl::Status& status,
                               const DoneInfo& done, absl::Time end,
                               const std::function<uint64_t()>& random);

}  // namespace pregate
