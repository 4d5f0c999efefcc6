#include "refactor/progress.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace pregate {
namespace {

std::string Minutes(absl::Duration d) {
  const auto seconds = static_cast<int64_t>(std::llround(absl::ToDoubleSeconds(d)));
  return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
}

}  // namespace

StageProgress::StageProgress(std::ostream& out, Clock& clock, std::string stage)
    : out_(out), clock_(clock), stage_(std::move(stage)), start_(clock.Now()) {}

void StageProgress::Begin(double done) {
  start_ = clock_.Now();
  begun_at_ = done;
  Print(done, "");
}

void StageProgress::Update(double done, const std::string& note) {
  if (clock_.Now() - printed_ >= absl::Seconds(5)) Print(done, note);
}

void StageProgress::Finish() {
  out_ << absl::StrFormat("[%5s] %s done\n", Minutes(Elapsed()), stage_) << std::flush;
}

void StageProgress::Print(double done, const std::string& note) {
  printed_ = clock_.Now();
  const double since = done - begun_at_;
  std::string left;
  if (since > 0.01 * (1 - begun_at_)) {
    left = absl::StrCat(", about ", Minutes(Elapsed() * ((1 - done) / since)), " left");
  }
  out_ << absl::StrFormat("[%5s] %s %3.0f%%%s%s%s\n", Minutes(Elapsed()), stage_, 100 * done, left,
                          note.empty() ? "" : ", ", note)
       << std::flush;
}

}  // namespace pregate
