// Methods of strings, dicts, lists and `loop`.
#pragma once

#include <string_view>

#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

// `value`'s method; undefined where it has none, and for those that would change it.
absl::StatusOr<Value> Method(Heap& heap, const Value& value, std::string_view name);

// Whether values of any kind have a method of that name, be it one that is refused when it runs.
bool IsKnownMethod(std::string_view name);

}  // namespace pregate::jinja
