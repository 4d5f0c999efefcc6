// Texts, and which of them is the longest that another text begins with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"

namespace pregate {

// Thread-safe once built.
class PrefixIndex {
 public:
  // `value` stands for `text`. REQUIRES: `text` is not empty and was not added before.
  void Add(std::string_view text, size_t value);
  void Build();  // after the last Add
  bool empty() const { return entries_.empty(); }

  struct Match {
    size_t value;
    size_t length;  // bytes of its text
  };
  // Nothing where `text` begins with none of the texts. n bytes of an indexed text take O(n log m)
  // among m of them. REQUIRES: Build was called; `text` is not empty.
  std::optional<Match> LongestAt(std::string_view text) const;
  // Each of the texts that `text` begins with, from the shortest to the longest; the same otherwise.
  void ForEachPrefix(std::string_view text, absl::FunctionRef<void(const Match&)> visit) const;

 private:
  struct Entry {
    std::string text;
    size_t value;
    bool operator<(const Entry& other) const { return text < other.text; }
  };
  struct Range {
    size_t begin, end;
  };
  Range Narrow(Range range, size_t depth, uint8_t byte) const;

  std::vector<Entry> entries_;  // sorted, so that those with a common beginning are neighbours
  std::array<Range, 256> by_first_byte_{};
};

}  // namespace pregate
