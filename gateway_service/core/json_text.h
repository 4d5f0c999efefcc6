// JSON written by hand where each token would otherwise cost a tree of values.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate::gateway {

// `text` in quotes, escaped. Bytes that are no UTF-8 become U+FFFD.
void AppendJsonString(std::string* out, absl::string_view text);
std::string JsonString(absl::string_view text);
// "[1,2,3]".
void AppendJsonArray(std::string* out, absl::Span<const int32_t> values);

}  // namespace pregate::gateway
