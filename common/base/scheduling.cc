#include "common/base/scheduling.h"

#include <sched.h>

#include <cerrno>

namespace pregate {

absl::Status BatchThreads() {
  const sched_param parameters = {};
  if (sched_setscheduler(0, SCHED_BATCH, &parameters) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "--batch-threads: sched_setscheduler");
}

void LetWaitingRun() {
  if (sched_getscheduler(0) == SCHED_BATCH) sched_yield();
}

}  // namespace pregate
