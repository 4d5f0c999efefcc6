// How an option's text becomes a value. Errors name the text and what would be accepted.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

// "512MiB", "2GB" (decimal), "1048576"; units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB in any case.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);
// The largest binary unit that divides `bytes` exactly: 536870912 -> "512MiB".
std::string FormatBytes(int64_t bytes);

// "200k", "1.5M", "5000"; a fraction where the whole is a whole number; k and M in either case.
absl::StatusOr<int64_t> ParseCount(absl::string_view text);
// The largest unit that divides `count` exactly: 1500000 -> "1500k".
std::string FormatCount(int64_t count);

absl::StatusOr<int64_t> ParseInt(absl::string_view text);
absl::StatusOr<double> ParseDouble(absl::string_view text);  // finite
// The shortest text that ParseDouble reads as `value`; without an exponent where that is readable.
std::string FormatDouble(double value);
absl::StatusOr<bool> ParseBool(absl::string_view text);  // true/false, on/off, yes/no, 1/0

}  // namespace pregate
