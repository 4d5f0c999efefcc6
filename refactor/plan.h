// What a run will take, before anything starts: from a measurement of seconds and a count of bytes.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "refactor/run_inputs.h"

namespace pregate {

struct StagePlan {
  std::string stage;
  double seconds = 0;
  int64_t memory_bytes = 0;  // of the host, or of a card while it tunes and evaluates
  int64_t disk_bytes = 0;    // in the work folder, or the checkpoint
};

// Times one window through the layers and, where there is tuning, one piece of a step on the device.
// Matrix products of other kinds are taken to run at the same rate.
absl::StatusOr<std::vector<StagePlan>> PlanRun(const Checkpoint& dense, const RunText& text,
                                               const RefactorOptions& options, Clock& clock);

void PrintPlan(const std::vector<StagePlan>& plan, std::ostream& out);

}  // namespace pregate
