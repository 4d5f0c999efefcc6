// Small checks that the codecs share: each names the field and the value at fault.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pregate {

// `count` elements of a repeated field.
inline absl::Status CheckCount(absl::string_view field, int64_t count, int64_t max) {
  if (count <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", count, " entries, at most ", max));
}

inline absl::Status CheckBytes(absl::string_view field, absl::string_view text, size_t max) {
  if (text.size() <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", text.size(), " bytes, at most ", max));
}

inline absl::Status CheckBetween(absl::string_view field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", not ", min, " to ", max));
}

inline absl::Status BadField(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", why));
}

// The first `max` bytes at most, never half a UTF-8 character: protobuf refuses such strings.
inline absl::string_view Clip(absl::string_view text, size_t max) {
  if (text.size() <= max) return text;
  while (max > 0 && (static_cast<unsigned char>(text[max]) & 0xC0) == 0x80) --max;
  return text.substr(0, max);
}

template <typename Repeated>
auto ToVector(const Repeated& field) {
  return std::vector<typename Repeated::value_type>(field.begin(), field.end());
}

}  // namespace pregate
