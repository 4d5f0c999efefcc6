// Values as text: str(), repr() and JSON. Text of strings keeps its marks; all else, numbers and
// punctuation, counts as the caller's.
#pragma once

#include <optional>
#include <string>

#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

absl::StatusOr<MarkedText> Str(Heap& heap, const Value& value);
std::string FloatText(double number);  // Python's repr

// json.dumps with these options.
struct JsonFormat {
  bool ascii = false;
  std::optional<std::string> indent;  // of one level
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false;
};
absl::StatusOr<MarkedText> JsonText(Heap& heap, const Value& value, const JsonFormat& format);

}  // namespace pregate::jinja
