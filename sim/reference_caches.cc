#include "sim/reference_caches.h"

#include <list>
#include <vector>

#include "sim/mix.h"

namespace pregate::sim {

int64_t RandomHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots,
                   uint64_t seed) {
  constexpr int32_t kAbsent = -1;
  std::vector<int32_t> slot_of(num_units, kAbsent);
  std::vector<int32_t> units;  // [slots in use]
  int64_t hits = 0;
  for (size_t i = 0; i < references.size(); ++i) {
    const int32_t unit = references[i];
    if (slot_of[unit] != kAbsent) {
      ++hits;
    } else if (static_cast<int32_t>(units.size()) < slots) {
      slot_of[unit] = static_cast<int32_t>(units.size());
      units.push_back(unit);
    } else {
      const auto slot = static_cast<int32_t>(Mix(seed, i) % slots);
      slot_of[units[slot]] = kAbsent;
      units[slot] = unit;
      slot_of[unit] = slot;
    }
  }
  return hits;
}

int64_t LruHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots) {
  std::list<int32_t> order;  // the longest unused first
  std::vector<std::list<int32_t>::iterator> place(num_units, order.end());
  int64_t hits = 0;
  for (const int32_t unit : references) {
    if (place[unit] != order.end()) {
      ++hits;
      order.splice(order.end(), order, place[unit]);
      continue;
    }
    if (static_cast<int32_t>(order.size()) == slots) {
      place[order.front()] = order.end();
      order.pop_front();
    }
    place[unit] = order.insert(order.end(), unit);
  }
  return hits;
}

}  // namespace pregate::sim
