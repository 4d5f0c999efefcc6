#include "common/grammar/number_ranges.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

constexpr int kFractionDigitsMax = 6;

bool AllAre(std::string_view digits, char digit) {
  return digits.find_first_not_of(digit) == std::string_view::npos;
}

Expr AnyDigits(size_t n, Grammar* g) {
  const auto count = static_cast<int64_t>(n);
  return g->Repeat(g->Range('0', '9'), count, count);
}

// Digits from `low` to `high`, which are equally many.
Expr DigitsBetween(std::string_view low, std::string_view high, Grammar* g) {
  if (low.empty()) return g->Empty();
  const std::string_view low_rest = low.substr(1), high_rest = high.substr(1);
  if (low[0] == high[0]) {
    return g->Sequence({g->Literal(low.substr(0, 1)), DigitsBetween(low_rest, high_rest, g)});
  }
  char first = low[0], last = high[0];
  std::vector<Expr> choices;
  if (!AllAre(low_rest, '0')) {
    const std::string most(low_rest.size(), '9');
    choices.push_back(
        g->Sequence({g->Literal(low.substr(0, 1)), DigitsBetween(low_rest, most, g)}));
    ++first;
  }
  if (!AllAre(high_rest, '9')) {
    const std::string least(high_rest.size(), '0');
    choices.push_back(
        g->Sequence({g->Literal(high.substr(0, 1)), DigitsBetween(least, high_rest, g)}));
    --last;
  }
  if (first <= last) {
    choices.push_back(
        g->Sequence({g->Range(static_cast<uint8_t>(first), static_cast<uint8_t>(last)),
                     AnyDigits(low_rest.size(), g)}));
  }
  return g->Choice(std::move(choices));
}

// REQUIRES: 0 <= min <= max.
Expr NaturalBetween(int64_t min, int64_t max, Grammar* g) {
  std::vector<Expr> choices;
  while (true) {
    const std::string low = absl::StrCat(min);
    const std::string all_nines(low.size(), '9');
    const std::string high = absl::StrCat(max);
    choices.push_back(DigitsBetween(low, high.size() == low.size() ? high : all_nines, g));
    if (high.size() == low.size()) return g->Choice(std::move(choices));
    min = 1;
    for (size_t i = 0; i < low.size(); ++i) min *= 10;
  }
}

Expr Negative(Expr magnitude, Grammar* g) { return g->Sequence({g->Literal("-"), magnitude}); }

// Numbers of [min, max] with 0 <= min.
Expr MagnitudeBetween(NumberBound min, NumberBound max, Grammar* g) {
  const auto digits = [&](int64_t least) {
    return g->Repeat(g->Range('0', '9'), least, kFractionDigitsMax);
  };
  const auto zeros = [&] { return g->Repeat(g->Literal("0"), 1, kFractionDigitsMax); };
  std::vector<Expr> choices;
  // Whole parts all of whose fractions are in.
  const int64_t first = min.value + (min.excluded ? 1 : 0);
  if (first < max.value) {
    choices.push_back(g->Sequence({NaturalBetween(first, max.value - 1, g),
                                   g->Optional(g->Sequence({g->Literal("."), digits(1)}))}));
  }
  // Beyond an excluded bound: some digit behind the point is not 0.
  if (min.excluded && min.value < max.value) {
    for (int before = 0; before < kFractionDigitsMax; ++before) {
      choices.push_back(g->Sequence(
          {g->Literal(absl::StrCat(min.value, ".", std::string(static_cast<size_t>(before), '0'))),
           g->Range('1', '9'), g->Repeat(g->Range('0', '9'), 0, kFractionDigitsMax - 1 - before)}));
    }
  }
  const bool at_min = max.value > min.value || !min.excluded;
  if (!max.excluded && at_min && max.value >= min.value) {
    choices.push_back(g->Sequence({g->Literal(absl::StrCat(max.value)),
                                   g->Optional(g->Sequence({g->Literal("."), zeros()}))}));
  }
  return g->Choice(std::move(choices));
}

}  // namespace

Expr IntegerBetween(int64_t min, int64_t max, Grammar* grammar) {
  std::vector<Expr> choices;
  if (min < 0 && min <= max) {
    choices.push_back(Negative(NaturalBetween(std::max<int64_t>(1, -max), -min, grammar), grammar));
  }
  if (max >= 0 && min <= max) {
    choices.push_back(NaturalBetween(std::max<int64_t>(0, min), max, grammar));
  }
  return grammar->Choice(std::move(choices));
}

Expr NumberBetween(NumberBound min, NumberBound max, Grammar* grammar) {
  std::vector<Expr> choices;
  if (min.value < 0) {
    const NumberBound low =
        max.value < 0 ? NumberBound{-max.value, max.excluded} : NumberBound{0, /*excluded=*/true};
    choices.push_back(
        Negative(MagnitudeBetween(low, {-min.value, min.excluded}, grammar), grammar));
  }
  if (max.value >= 0) {
    const NumberBound low = min.value < 0 ? NumberBound{0} : min;
    choices.push_back(MagnitudeBetween(low, max, grammar));
  }
  return grammar->Choice(std::move(choices));
}

}  // namespace pregate
