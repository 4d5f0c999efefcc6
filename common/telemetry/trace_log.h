// What router and workers tell of the requests that belong to a trace (docs/OPERATING.md).
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "common/telemetry/log.h"
#include "common/telemetry/request_lines.h"
#include "common/telemetry/trace.h"

namespace pregate {

// What one service did for one sequence.
struct TracedWork {
  std::string traceparent;  // as the scheduler sent it
  uint64_t seq_id = 0;
  int64_t tokens = 0;  // that were routed, or run
  absl::Time start, end;
};

// A line of each, at most kRequestLinesMax a second, and a span where somebody collects them and the
// trace is sampled. Thread-safe.
class TraceLog {
 public:
  // `name` is the lines' and the spans'. `log` and `spans` outlive it; `spans` is null where nobody
  // collects them.
  TraceLog(std::string name, const Log* log, SpanSink* spans)
      : name_(std::move(name)), log_(log), spans_(spans) {}

  // What has no valid traceparent is nothing.
  void Add(const TracedWork& work);

 private:
  const std::string name_;
  const Log* const log_;
  SpanSink* const spans_;
  RequestLines lines_;
};

}  // namespace pregate
