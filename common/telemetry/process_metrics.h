// What Prometheus users expect of any process: which build it is, since when it runs, its memory
// and files. Linux only: read from /proc.
#pragma once

#include "common/telemetry/metrics.h"

namespace pregate {

// build_info{version,commit} with the prefix; process_start_time_seconds,
// process_resident_memory_bytes and process_open_fds without, read anew by every Serialize.
void AddProcessMetrics(MetricsRegistry* registry);

}  // namespace pregate
