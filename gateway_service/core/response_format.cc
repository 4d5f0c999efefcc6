#include "gateway_service/core/response_format.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"

namespace pregate::gateway {
namespace {

absl::Status Constrain(absl::string_view name, Constraint constraint, Generation* out) {
  if (!std::holds_alternative<std::monostate>(out->constraint)) {
    return Invalid(name, "does not go with another constraint");
  }
  out->constraint = std::move(constraint);
  return absl::OkStatus();
}

// What a schema may be is the scheduler's to say.
absl::Status ConstrainBySchema(const std::string& name, const Json& schema, Generation* out) {
  if (!schema.is_object() && !schema.is_boolean()) {
    return Invalid(name, absl::StrCat("is ", Shown(schema), ", not a JSON Schema"));
  }
  return Constrain(name, JsonSchema{schema.dump(-1, ' ', false, Json::error_handler_t::replace)},
                   out);
}

absl::Status ReadTrue(const std::string& name, const Json& value) {
  ASSIGN_OR_RETURN(const bool is_true, ReadBool(name, value));
  return is_true ? absl::OkStatus() : Invalid(name, "is false, not true");
}

absl::Status ReadChoice(const std::string& name, const Json& value, Generation* out) {
  if (!value.is_array() || value.empty()) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an array of texts"));
  }
  TextChoice choice;
  for (size_t i = 0; i < value.size(); ++i) {
    ASSIGN_OR_RETURN(std::string text, ReadString(absl::StrCat(name, "[", i, "]"), value[i]));
    choice.texts.push_back(std::move(text));
  }
  return Constrain(name, std::move(choice), out);
}

}  // namespace

absl::Status ReadResponseFormat(absl::string_view name, const Json& value, Generation* out) {
  if (!value.is_object()) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  }
  const Json& type = Member(value, "type");
  if (type == "text") return absl::OkStatus();
  if (type == "json_object") return Constrain(name, AnyJsonObject{}, out);
  if (type != "json_schema") {
    return Unsupported(
        absl::StrCat(name, ".type"),
        absl::StrCat("is ", Shown(type), ": text, json_object and json_schema are supported"));
  }
  const std::string at = absl::StrCat(name, ".json_schema");
  const Json& schema = Member(value, "json_schema");
  if (!schema.is_object()) {
    return Invalid(at, absl::StrCat("is ", Shown(schema), ", not an object"));
  }
  return ConstrainBySchema(at + ".schema", Member(schema, "schema"), out);
}

absl::Status ReadStructuredOutputs(absl::string_view name, const Json& value, Generation* out) {
  if (!value.is_object() || value.size() != 1) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object of one member"));
  }
  const std::string key = value.begin().key(), at = absl::StrCat(name, ".", key);
  const Json& given = value.begin().value();
  if (key == "json") return ConstrainBySchema(at, given, out);
  if (key == "choice") return ReadChoice(at, given, out);
  if (key == "json_object") {
    RETURN_IF_ERROR(ReadTrue(at, given));
    return Constrain(name, AnyJsonObject{}, out);
  }
  if (key == "regex") {
    ASSIGN_OR_RETURN(std::string regex, ReadString(at, given));
    return Constrain(name, Regex{std::move(regex)}, out);
  }
  return Unsupported(at, "is unknown: json, json_object, regex and choice are supported");
}

}  // namespace pregate::gateway
