// Texts put into texts: % and str.format, and the escapes of |escape.
#pragma once

#include <vector>

#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

// &, <, >, ' and " as character references.
MarkedText Escaped(const MarkedText& text);

// `format` % `value`, with %s, %r, %d, %i, %f, %.Nf and %%; Unimplemented for others.
absl::StatusOr<Value> FormatPercent(Heap& heap, const MarkedText& format, const Value& value);
// format.format(...), with {}, {0} and {name}; Unimplemented for more.
absl::StatusOr<Value> FormatBraces(Heap& heap, const MarkedText& format,
                                   const Arguments& arguments);

}  // namespace pregate::jinja
