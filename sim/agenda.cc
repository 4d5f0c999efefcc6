#include "sim/agenda.h"

#include <algorithm>
#include <utility>

namespace pregate::sim {

std::vector<EngineEvent> Agenda::Wait(absl::Time deadline) {
  while (inbox_.empty() && RunNext(deadline)) {
  }
  if (inbox_.empty()) clock_.Set(std::max(clock_.Now(), deadline));
  return std::exchange(inbox_, {});
}

bool Agenda::RunNext(absl::Time until) {
  if (planned_.empty() || planned_.top().time > until) return false;
  const Planned next = planned_.top();
  planned_.pop();
  clock_.Set(std::max(clock_.Now(), next.time));
  next.action();
  return true;
}

void Agenda::At(absl::Time time, std::function<void()> action) {
  planned_.push({std::max(time, clock_.Now()), next_number_++, std::move(action)});
}

}  // namespace pregate::sim
