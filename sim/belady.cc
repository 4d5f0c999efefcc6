#include "sim/belady.h"

#include <set>
#include <utility>
#include <vector>

namespace pregate::sim {

int64_t OptimalHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots) {
  const int64_t never = static_cast<int64_t>(references.size());
  std::vector<int64_t> next(references.size());
  std::vector<int64_t> seen(num_units, never);
  for (int64_t i = never; i-- > 0;) {
    next[i] = seen[references[i]];
    seen[references[i]] = i;
  }
  std::set<std::pair<int64_t, int32_t>> resident;  // by next use
  int64_t hits = 0;
  for (int64_t i = 0; i < never; ++i) {
    const int32_t unit = references[i];
    if (resident.erase({i, unit}) > 0) {
      ++hits;
    } else if (static_cast<int32_t>(resident.size()) == slots) {
      resident.erase(std::prev(resident.end()));
    }
    resident.emplace(next[i], unit);
  }
  return hits;
}

}  // namespace pregate::sim
