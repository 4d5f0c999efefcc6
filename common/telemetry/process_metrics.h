// What Prometheus users expect of any process: which build it is, since when it runs, its memory
// and files. Linux only: read from /proc.
#pragma once

#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"

namespace pregate {

// build_info{version,commit} with the prefix; without it, read anew by every Serialize, what the
// Prometheus clients of other languages call process_...: start, CPU time, memory, descriptors and
// their limit, threads.
void AddProcessMetrics(MetricsRegistry* registry);

// File descriptors: as many as the system gives, and how many of them connections may take.

// Raises the soft limit to the hard one and logs it: a burst of connections must not meet it.
void RaiseDescriptorLimit(const Log& log);

// Of one port: `max`, or fewer where the limit less kDescriptorsReserved is small. Each takes
// `descriptors_each`.
int ConnectionsThatFit(int max, int descriptors_each);

}  // namespace pregate
