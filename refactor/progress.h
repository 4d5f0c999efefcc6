// Says on a terminal or in a log what runs, how far it is and about how long the rest will take.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "common/base/clock.h"

namespace pregate {

// Work is counted in units that take about equally long over all stages (GFLOP, say); time left is
// measured time per unit times the units left. Prints at the start and end of a stage and at most
// every five seconds between. Not thread-safe; borrows the stream and the clock.
class StageProgress {
 public:
  struct Stage {
    std::string name;
    double units = 0;
  };

  StageProgress(std::ostream& out, Clock& clock, std::vector<Stage> stages);

  // Begins the next stage; the one before is taken as complete.
  void NextStage();
  // `fraction` of the current stage is done, 0 .. 1.
  void Update(double fraction);
  void Finish();
  absl::Duration Elapsed() { return clock_.Now() - start_; }

 private:
  void Print(double fraction);

  std::ostream& out_;
  Clock& clock_;
  const std::vector<Stage> stages_;
  const absl::Time start_;
  double units_all_ = 0;
  double units_before_ = 0;  // of the stages that have ended
  int stage_ = -1;
  absl::Time printed_ = absl::InfinitePast();
};

}  // namespace pregate
