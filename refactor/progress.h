// Says on a terminal or in a log what runs, how far it is and about how long the rest will take.
#pragma once

#include <ostream>
#include <string>

#include "common/base/clock.h"

namespace pregate {

// One stage of a run. Time left is measured: since Begin, for the part done since then. Prints at
// the start and the end and at most every five seconds between. Not thread-safe; borrows the stream
// and the clock.
class StageProgress {
 public:
  StageProgress(std::ostream& out, Clock& clock, std::string stage);

  // `done`, 0 .. 1, of the whole stage: an earlier process may have done the first part.
  void Begin(double done);
  // `note` stands behind the time left ("loss 2.31").
  void Update(double done, const std::string& note = "");
  void Finish();
  absl::Duration Elapsed() { return clock_.Now() - start_; }

 private:
  void Print(double done, const std::string& note);

  std::ostream& out_;
  Clock& clock_;
  const std::string stage_;
  absl::Time start_;
  double begun_at_ = 0;
  absl::Time printed_ = absl::InfinitePast();
};

}  // namespace pregate
