#include "common/config/values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/status.h"

namespace pregate {
namespace {

struct Unit {
  absl::string_view name;
  int64_t factor;
};
constexpr int64_t kKi = 1024;
constexpr Unit kByteUnits[] = {{"TiB", kKi* kKi* kKi* kKi},
                               {"GiB", kKi* kKi* kKi},
                               {"MiB", kKi* kKi},
                               {"KiB", kKi},
                               {"TB", 1'000'000'000'000},
                               {"GB", 1'000'000'000},
                               {"MB", 1'000'000},
                               {"kB", 1000},
                               {"B", 1}};
constexpr Unit kCountUnits[] = {{"M", 1'000'000}, {"k", 1000}};

// Takes the first of `units` that ends `text`, and the blanks before it, from it; 1 without one.
int64_t TakeUnit(absl::Span<const Unit> units, absl::string_view* text) {
  *text = absl::StripAsciiWhitespace(*text);
  for (const Unit& unit : units) {
    if (!absl::EndsWithIgnoreCase(*text, unit.name)) continue;
    *text = absl::StripAsciiWhitespace(text->substr(0, text->size() - unit.name.size()));
    return unit.factor;
  }
  return 1;
}

absl::Status NotA(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not ", what));
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  absl::string_view number = text;
  const int64_t factor = TakeUnit(kByteUnits, &number);
  int64_t count = 0;
  if (!absl::SimpleAtoi(number, &count) || count < 0) {
    return NotA(text, "a size (a whole number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB)");
  }
  if (count > std::numeric_limits<int64_t>::max() / factor) {
    return NotA(text, "a size below 2^63 bytes");
  }
  return count * factor;
}

std::string FormatBytes(int64_t bytes) {
  for (const Unit& unit : kByteUnits) {
    if (unit.factor % kKi == 0 && bytes != 0 && bytes % unit.factor == 0) {
      return absl::StrCat(bytes / unit.factor, unit.name);
    }
  }
  return absl::StrCat(bytes, "B");
}

absl::StatusOr<int64_t> ParseCount(absl::string_view text) {
  constexpr absl::string_view kWhat = "a whole number, with k or M for thousands or millions";
  absl::string_view number = text;
  int64_t factor = TakeUnit(kCountUnits, &number);
  const size_t point = std::min(number.find('.'), number.size());
  int64_t count = 0;
  const bool digit_first = !number.empty() && absl::ascii_isdigit(number[0]);
  if (!digit_first || !absl::SimpleAtoi(number.substr(0, point), &count)) return NotA(text, kWhat);
  if (count >= std::numeric_limits<int64_t>::max() / factor)
    return NotA(text, "a count below 2^63");
  count *= factor;
  const absl::string_view fraction = number.substr(std::min(point + 1, number.size()));
  if (fraction.empty() != (point == number.size())) return NotA(text, kWhat);
  for (const char digit : fraction) {
    if (!absl::ascii_isdigit(digit) || (factor == 1 && digit != '0')) return NotA(text, kWhat);
    factor = std::max<int64_t>(factor / 10, 1);
    count += (digit - '0') * factor;
  }
  return count;
}

std::string FormatCount(int64_t count) {
  for (const Unit& unit : kCountUnits) {
    if (count != 0 && count % unit.factor == 0) {
      return absl::StrCat(count / unit.factor, unit.name);
    }
  }
  return absl::StrCat(count);
}

absl::StatusOr<int64_t> ParseInt(absl::string_view text) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) return NotA(text, "a whole number");
  return value;
}

absl::StatusOr<double> ParseDouble(absl::string_view text) {
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value))
    return NotA(text, "a finite number");
  return value;
}

std::string FormatDouble(double value) {
  const double size = std::abs(value);
  const bool readable = size == 0 || (size >= 1e-6 && size < 1e15);
  std::array<char, 64> text;
  const auto end = std::to_chars(text.begin(), text.end(), value,
                                 readable ? std::chars_format::fixed : std::chars_format::general);
  return std::string(text.begin(), end.ptr);
}

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  if (lower == "true" || lower == "on" || lower == "yes" || lower == "1") return true;
  if (lower == "false" || lower == "off" || lower == "no" || lower == "0") return false;
  return NotA(text, "true or false");
}

}  // namespace pregate
