// The keywords of JSON Schema (2020-12) that are understood, and errors that name the others.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace pregate {

using Schema = nlohmann::ordered_json;  // members as they are declared

enum class SchemaKeyword : uint8_t {
  kNote,    // restricts no text: title, description, $defs, ...
  kAny,     // of every type, or a way to combine schemas: type, enum, anyOf, $ref, ...
  kObject,  // of one type alone
  kArray,
  kString,
  kNumber,
  kUnsupported,
};
SchemaKeyword KindOf(std::string_view keyword);

// InvalidArgument: "json_schema: POINTER: WHAT".
absl::Status SchemaError(std::string_view pointer, std::string_view what);
// The pointer of a member (RFC 6901).
std::string MemberPointer(std::string_view pointer, std::string_view member);
// As it is written, cut where it is long.
std::string ExcerptOf(const Schema& value);

// Whether every keyword of the object `schema` is understood; names the first that is not.
absl::Status CheckKeywords(const Schema& schema, std::string_view pointer);
// Whether `schema` has a keyword that restricts texts, beside `but`.
bool Restricts(const Schema& schema, std::string_view but = "");

}  // namespace pregate
