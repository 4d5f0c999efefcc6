#include "common/grammar/testing/schema_validator.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>
#include <string>

namespace pregate {
namespace {

bool IsInteger(const Schema& value) {
  return value.is_number() && value.get<double>() == std::floor(value.get<double>());
}

bool IsType(const Schema& value, const std::string& type) {
  if (type == "integer") return IsInteger(value);
  if (type == "number") return value.is_number();
  return std::string(value.type_name()) == type;
}

size_t CharactersOf(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

bool ObjectIsValid(const Schema& value, const Schema& schema, const Schema& root) {
  for (const Schema& name : schema.value("required", Schema::array())) {
    if (!value.contains(name.get<std::string>())) return false;
  }
  const Schema properties = schema.value("properties", Schema::object());
  for (const auto& [name, member] : value.items()) {
    const Schema additional = schema.value("additionalProperties", Schema(true));
    const Schema& by = properties.contains(name) ? properties.at(name) : additional;
    if (!IsValid(member, by, root)) return false;
  }
  return true;
}

bool ArrayIsValid(const Schema& value, const Schema& schema, const Schema& root) {
  if (value.size() < schema.value("minItems", size_t{0})) return false;
  if (value.size() > schema.value("maxItems", SIZE_MAX)) return false;
  const Schema prefix = schema.value("prefixItems", Schema::array());
  const Schema items = schema.value("items", Schema(true));
  for (size_t i = 0; i < value.size(); ++i) {
    if (!IsValid(value[i], i < prefix.size() ? prefix[i] : items, root)) return false;
  }
  return true;
}

bool StringIsValid(const std::string& value, const Schema& schema) {
  const size_t length = CharactersOf(value);
  if (length < schema.value("minLength", size_t{0})) return false;
  if (length > schema.value("maxLength", SIZE_MAX)) return false;
  if (!schema.contains("pattern")) return true;
  return std::regex_search(value, std::regex(schema.at("pattern").get<std::string>()));
}

bool NumberIsValid(double value, const Schema& schema) {
  if (schema.contains("minimum") && value < schema.at("minimum")) return false;
  if (schema.contains("maximum") && value > schema.at("maximum")) return false;
  if (schema.contains("exclusiveMinimum") && value <= schema.at("exclusiveMinimum")) return false;
  return !schema.contains("exclusiveMaximum") || value < schema.at("exclusiveMaximum");
}

bool AnyIsValid(const Schema& value, const Schema& branches, const Schema& root) {
  return std::any_of(branches.begin(), branches.end(),
                     [&](const Schema& branch) { return IsValid(value, branch, root); });
}

bool TypeIsValid(const Schema& value, const Schema& type) {
  if (type.is_string()) return IsType(value, type.get<std::string>());
  return std::any_of(type.begin(), type.end(),
                     [&](const Schema& name) { return IsType(value, name.get<std::string>()); });
}

}  // namespace

bool IsValid(const Schema& value, const Schema& schema, const Schema& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (schema.contains("$ref")) {
    const std::string ref = schema.at("$ref").get<std::string>();
    if (!IsValid(value, root.at(Schema::json_pointer(ref.substr(1))), root)) return false;
  }
  for (const Schema& part : schema.value("allOf", Schema::array())) {
    if (!IsValid(value, part, root)) return false;
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword) && !AnyIsValid(value, schema.at(keyword), root)) return false;
  }
  if (schema.contains("type") && !TypeIsValid(value, schema.at("type"))) return false;
  if (schema.contains("const") && value != schema.at("const")) return false;
  if (schema.contains("enum")) {
    const Schema& values = schema.at("enum");
    if (std::find(values.begin(), values.end(), value) == values.end()) return false;
  }
  if (value.is_object()) return ObjectIsValid(value, schema, root);
  if (value.is_array()) return ArrayIsValid(value, schema, root);
  if (value.is_string()) return StringIsValid(value.get<std::string>(), schema);
  return !value.is_number() || NumberIsValid(value.get<double>(), schema);
}

}  // namespace pregate
