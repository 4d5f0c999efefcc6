#include "common/config/config_file.h"

#include "common/base/files.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/config/values.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "absl/strings/escaping.h"

namespace pregate {
namespace {

using Type = ConfigValue::Type;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status NotTaken(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("is ", what));
}

absl::Status AddText(const toml::node& node, ConfigValue* value) {
  const std::string& text = **node.as_string();
  if (text.find('\0') != text.npos) return NotTaken("a string that holds a NUL character");
  value->texts.push_back(text);
  return absl::OkStatus();
}

absl::Status AddTexts(const toml::array& array, ConfigValue* value) {
  for (const toml::node& node : array) {
    if (!node.is_string()) return NotTaken("an array of other things than strings");
    RETURN_IF_ERROR(AddText(node, value));
  }
  return absl::OkStatus();
}

absl::StatusOr<ConfigValue> ToValue(const toml::node& node) {
  ConfigValue value{.line = static_cast<int>(node.source().begin.line)};
  switch (node.type()) {
    case toml::node_type::string:
      RETURN_IF_ERROR(AddText(node, &value));
      return value;
    case toml::node_type::integer:
      value.type = Type::kInteger;
      value.texts = {absl::StrCat(**node.as_integer())};
      return value;
    case toml::node_type::floating_point:
      value.type = Type::kFloat;
      value.texts = {FormatDouble(**node.as_floating_point())};
      return value;
    case toml::node_type::boolean:
      value.type = Type::kBoolean;
      value.texts = {**node.as_boolean() ? "true" : "false"};
      return value;
    case toml::node_type::array:
      value.type = Type::kStrings;
      RETURN_IF_ERROR(AddTexts(*node.as_array(), &value));
      return value;
    case toml::node_type::table:
      return NotTaken("a section, and options have none: write all keys without one");
    default:
      return NotTaken("a date or a time, which no option takes");
  }
}

}  // namespace

const char* ConfigTypeName(Type type) {
  switch (type) {
    case Type::kString:
      return "a string";
    case Type::kInteger:
      return "an integer";
    case Type::kFloat:
      return "a float";
    case Type::kBoolean:
      return "a boolean";
    case Type::kStrings:
      return "an array";
  }
  return "";
}

absl::StatusOr<ConfigFile> ParseConfig(absl::string_view toml, const std::string& name) {
  const auto fail = [&name](uint32_t line, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": ", what));
  };
  const toml::parse_result parsed = toml::parse(std::string_view(toml.data(), toml.size()));
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return fail(error.source().begin.line, absl::StrCat("not TOML: ", View(error.description())));
  }
  ConfigFile file;
  for (const auto& [key, node] : parsed.table()) {
    auto value = ToValue(node);
    if (!value.ok()) {
      return fail(node.source().begin.line, absl::StrCat(absl::Utf8SafeCEscape(View(key.str())),
                                                         " ", value.status().message()));
    }
    file.emplace(std::string(key.str()), *std::move(value));
  }
  return file;
}

absl::StatusOr<ConfigFile> ReadConfigFile(const std::string& path) {
  const auto bytes = ReadInput(path, kConfigFileBytesMax);
  if (!bytes.ok()) {
    return absl::Status(bytes.status().code(), absl::StrCat("--config ", bytes.status().message()));
  }
  return ParseConfig(*bytes, path);
}

}  // namespace pregate
