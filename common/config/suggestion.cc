#include "common/config/suggestion.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace pregate {
namespace {

constexpr size_t kNameBytesMax = 64;  // of what is worth a guess

std::string Folded(absl::string_view name) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"_", "-"}}));
}

// Damerau-Levenshtein distance (optimal string alignment).
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] = std::min(
          {cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string Suggestion(absl::string_view name, const std::vector<std::string>& names,
                       absl::string_view prefix) {
  if (name.empty() || name.size() > kNameBytesMax) return "";
  const std::string meant = Folded(name);
  size_t nearest = std::max<size_t>(1, meant.size() / 3) + 1;  // no guess from there on
  const std::string* best = nullptr;
  for (const std::string& candidate : names) {
    const auto [shorter, longer] = std::minmax({meant.size(), candidate.size()});
    if (longer - shorter >= nearest) continue;  // at least so many are inserted or deleted
    const size_t distance = Distance(meant, Folded(candidate));
    if (distance >= nearest) continue;
    nearest = distance;
    best = &candidate;
  }
  return best == nullptr ? "" : absl::StrCat("; did you mean ", prefix, *best, "?");
}

}  // namespace pregate
