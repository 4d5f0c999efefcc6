#include "refactor/progress.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "common/base/status.h"

namespace pregate {
namespace {

std::string Minutes(absl::Duration d) {
  const auto seconds = static_cast<int64_t>(std::llround(absl::ToDoubleSeconds(d)));
  return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
}

}  // namespace

StageProgress::StageProgress(std::ostream& out, Clock& clock, std::vector<Stage> stages)
    : out_(out), clock_(clock), stages_(std::move(stages)), start_(clock.Now()) {
  for (const Stage& stage : stages_) units_all_ += stage.units;
}

void StageProgress::NextStage() {
  if (stage_ >= 0) units_before_ += stages_[stage_].units;
  ++stage_;
  PREGATE_CHECK(stage_ < static_cast<int>(stages_.size()));
  Print(0);
}

void StageProgress::Update(double fraction) {
  if (clock_.Now() - printed_ >= absl::Seconds(5)) Print(fraction);
}

void StageProgress::Finish() {
  out_ << absl::StrFormat("[%5s] done\n", Minutes(Elapsed())) << std::flush;
}

void StageProgress::Print(double fraction) {
  printed_ = clock_.Now();
  const double done = units_before_ + fraction * stages_[stage_].units;
  std::string left;
  if (done > 0.01 * units_all_) {
    left = absl::StrCat(", about ", Minutes(Elapsed() * ((units_all_ - done) / done)), " left");
  }
  out_ << absl::StrFormat("[%5s] %d/%d %s %3.0f%%%s\n", Minutes(Elapsed()), stage_ + 1,
                          stages_.size(), stages_[stage_].name, 100 * fraction, left)
       << std::flush;
}

}  // namespace pregate
