#include "common/model/tokenizer/prefix_index.h"

#include <algorithm>

namespace pregate {

void PrefixIndex::Add(std::string_view text, size_t value) {
  entries_.push_back({std::string(text), value});
}

void PrefixIndex::Build() {
  std::sort(entries_.begin(), entries_.end());
  for (int byte = 0; byte < 256; ++byte) {
    by_first_byte_[byte] = Narrow({0, entries_.size()}, 0, static_cast<uint8_t>(byte));
  }
}

// The entries of `range`, equal before `depth`, that have `byte` there.
PrefixIndex::Range PrefixIndex::Narrow(Range range, size_t depth, uint8_t byte) const {
  const auto at = [depth](const Entry& entry) {
    return depth < entry.text.size() ? int{static_cast<uint8_t>(entry.text[depth])} : -1;
  };
  const auto first = entries_.begin() + range.begin, last = entries_.begin() + range.end;
  const auto low =
      std::partition_point(first, last, [&](const Entry& entry) { return at(entry) < byte; });
  const auto high =
      std::partition_point(low, last, [&](const Entry& entry) { return at(entry) <= byte; });
  return {static_cast<size_t>(low - entries_.begin()),
          static_cast<size_t>(high - entries_.begin())};
}

void PrefixIndex::ForEachPrefix(std::string_view text,
                                absl::FunctionRef<void(const Match&)> visit) const {
  Range range = by_first_byte_[static_cast<uint8_t>(text[0])];
  for (size_t depth = 1; range.begin < range.end; ++depth) {
    const Entry& shortest = entries_[range.begin];
    if (shortest.text.size() == depth) visit({shortest.value, depth});
    if (depth == text.size()) break;
    range = Narrow(range, depth, static_cast<uint8_t>(text[depth]));
  }
}

std::optional<PrefixIndex::Match> PrefixIndex::LongestAt(std::string_view text) const {
  std::optional<Match> longest;
  ForEachPrefix(text, [&](const Match& match) { longest = match; });
  return longest;
}

}  // namespace pregate
