#include "scheduler_service/core/waiting_line.h"

namespace pregate::scheduler {

void WaitingLine::Insert(Sequence* sequence) {
  by_id_[sequence->id] = sequence;
  levels_[sequence->priority].sequences.insert(sequence);
}

void WaitingLine::Erase(Sequence* sequence) {
  if (by_id_.erase(sequence->id) == 0) return;
  const auto level = levels_.find(sequence->priority);
  level->second.sequences.erase(sequence);
  if (level->second.sequences.empty()) levels_.erase(level);
}

Sequence* WaitingLine::Enter(SeqId id) {
  const auto it = by_id_.find(id);
  if (it == by_id_.end()) return nullptr;
  Sequence* const sequence = it->second;
  levels_[sequence->priority].passed = 0;
  for (auto& [priority, level] : levels_) {
    if (priority < sequence->priority) ++level.passed;
  }
  Erase(sequence);
  return sequence;
}

std::vector<Sequence*> WaitingLine::First(int32_t count) const {
  struct Cursor {
    absl::btree_set<Sequence*, ByTurn>::const_iterator next, end;
    int32_t passed;
  };
  std::vector<Cursor> levels;
  for (const auto& [priority, level] : levels_) {
    levels.push_back({level.sequences.begin(), level.sequences.end(), level.passed});
  }
  std::vector<Sequence*> first;
  while (static_cast<int32_t>(first.size()) < count) {
    size_t chosen = levels.size();
    for (size_t i = levels.size(); i-- > 0;) {
      if (levels[i].next == levels[i].end) continue;
      chosen = i;  // the highest, if none below it has waited for long
      if (levels[i].passed >= kPassedMax) break;
    }
    if (chosen == levels.size()) break;
    first.push_back(*levels[chosen].next++);
    levels[chosen].passed = 0;
    for (size_t i = chosen + 1; i < levels.size(); ++i) ++levels[i].passed;
  }
  return first;
}

}  // namespace pregate::scheduler
