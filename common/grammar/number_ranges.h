// Decimal numbers between two bounds, exactly, as expressions of a grammar.
#pragma once

#include <cstdint>

#include "common/grammar/grammar.h"

namespace pregate {

inline constexpr int64_t kIntegerTextMax = 999'999'999'999'999'999;  // 18 digits

// Integers of [min, max], without a sign before 0. REQUIRES: -kIntegerTextMax <= min, max <=
// kIntegerTextMax. Of min > max: no text.
Grammar::Expr IntegerBetween(int64_t min, int64_t max, Grammar* grammar);

// A bound of numbers that need not be integers.
struct NumberBound {
  int64_t value;
  bool excluded = false;  // the bound itself
};
// Numbers of up to 6 digits behind the point, without exponent. REQUIRES: bounds of at most
// kNumberBoundMax either way.
inline constexpr int64_t kNumberBoundMax = 1'000'000'000;
Grammar::Expr NumberBetween(NumberBound min, NumberBound max, Grammar* grammar);

}  // namespace pregate
