// Python's operators on values, as jinja2 uses them. Errors say what cannot be done with what; the
// caller adds the line.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

bool IsTrue(const Value& value);
absl::StatusOr<bool> Equals(Heap& heap, const Value& a, const Value& b);
// Negative, zero or positive; InvalidArgument for kinds that have no order.
absl::StatusOr<int> Compare(Heap& heap, const Value& a, const Value& b);
// `sign` is ==, !=, <, <=, >, >=, in or not in.
absl::StatusOr<bool> Holds(Heap& heap, std::string_view sign, const Value& a, const Value& b);
absl::StatusOr<bool> Contains(Heap& heap, const Value& container, const Value& item);

// `sign` is +, -, *, /, //, % or **.
absl::StatusOr<Value> Calculate(Heap& heap, std::string_view sign, const Value& a, const Value& b);
absl::StatusOr<Value> Signed(std::string_view sign, const Value& value);

// What iterating over a value gives; a generator gives it once.
absl::StatusOr<std::vector<Value>> Iterate(Heap& heap, const Value& value);
absl::StatusOr<int64_t> Length(const Value& value);

// value.name and value[key]: each looks where the other does when it finds nothing.
absl::StatusOr<Value> Attribute(Heap& heap, const Value& value, std::string_view name);
absl::StatusOr<Value> Item(Heap& heap, const Value& value, const Value& key);
// value[start:stop:step]; what is none or not there is left out.
absl::StatusOr<Value> Slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                            const Value& step);

bool IsHashable(const Value& value);  // can be a key of a dict
// The member of a dict; null: it has none of that key. InvalidArgument for what cannot be
// one.
absl::StatusOr<const Value*> FindItem(Heap& heap, const Value& dict, const Value& key);

// What using an undefined value says.
absl::Status UndefinedError(const Value& value);

// The characters [begin, end) of a string, and their offsets.
MarkedText SubText(const MarkedText& text, const std::vector<size_t>& offsets, size_t begin,
                   size_t end);

}  // namespace pregate::jinja
