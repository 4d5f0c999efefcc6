#include "common/telemetry/trace_log.h"

#include "common/base/process.h"

namespace pregate {

void TraceLog::Add(const TracedWork& work) {
  const auto trace = ParseTraceparent(work.traceparent);
  if (!trace) return;
  int64_t left_out = 0;
  if (lines_.Take(work.end, &left_out)) {
    if (left_out > 0) log_->Info("requests without a line", {{"count", left_out}});
    log_->Info(name_, {{"trace_id", TraceIdText(trace->trace_id)},
                       {"seq_id", work.seq_id},
                       {"tokens", work.tokens},
                       {"ms", RequestLines::Milliseconds(work.end - work.start)}});
  }
  if (spans_ == nullptr || !trace->sampled) return;
  spans_->Add({{.trace_id = trace->trace_id,
                .id = MakeSpanId(RandomId()),
                .parent = trace->parent,
                .name = name_,
                .start = work.start,
                .end = work.end,
                .attributes = {{"pregate.seq_id", static_cast<int64_t>(work.seq_id)},
                               {"pregate.tokens", work.tokens}}}});
}

}  // namespace pregate
