// One value of a request's JSON, read by type and range. Errors name the field and show the value;
// `name` is its place in the request: "messages[0].role".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/ids.h"
#include "nlohmann/json.hpp"

namespace pregate::gateway {

// Of bodies: members stay in the order of the text, which a JSON Schema's answers follow.
using Json = nlohmann::ordered_json;

// For messages: short, whatever the value is. "\"abc\"", "3.5", "an array of 4".
std::string Shown(const Json& value);

// JSON in a string of a body, or in a text of a model: nothing where it is none, or nested deeper than
// kJsonDepthMax.
std::optional<Json> ParseJsonText(absl::string_view text);

// Of an object: null where it has no such member.
const Json& Member(const Json& object, const char* name);

absl::StatusOr<double> ReadNumber(absl::string_view name, const Json& value, double min,
                                  double max);
absl::StatusOr<int64_t> ReadInt(absl::string_view name, const Json& value, int64_t min,
                                int64_t max);
absl::StatusOr<bool> ReadBool(absl::string_view name, const Json& value);
absl::StatusOr<std::string> ReadString(absl::string_view name, const Json& value);
// An array of ids >= 0.
absl::StatusOr<std::vector<TokenId>> ReadIds(absl::string_view name, const Json& value);

// The text of a message or of a part of the prompt: a string, or an array of {"type": "text",
// "text": ...}, which are joined.
absl::StatusOr<std::string> ReadTextContent(absl::string_view name, const Json& value);

}  // namespace pregate::gateway
