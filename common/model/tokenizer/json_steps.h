// How tokenizer.json spells chains of steps: one {"type": NAME, ...}, or a Sequence of such.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/tokenizer/text_pattern.h"

namespace pregate {

// Unimplemented, naming it, for a field that is none of `known`: it may change ids or text.
absl::Status CheckKeys(const JsonObject& object, std::initializer_list<std::string_view> known);

// One step and its type.
struct JsonStep {
  JsonObject object;
  std::string type;
};

// The steps of `value`, Sequences taken apart, whose steps stand under `list_key`. Null has none.
absl::StatusOr<std::vector<JsonStep>> StepsOf(const nlohmann::json& value, const std::string& where,
                                              const char* list_key);

// Unimplemented: the step's type is not known.
absl::Status UnknownStep(const JsonStep& step);

// "pattern" of a step, a {"String": ...} or a {"Regex": ...}.
struct JsonPattern {
  std::unique_ptr<TextPattern> pattern;
  std::string literal;  // empty for a regular expression
};
absl::StatusOr<JsonPattern> PatternOf(const JsonObject& step);

// The same error, beginning with where it is.
absl::Status AtPlace(const std::string& where, const absl::Status& status);

}  // namespace pregate
