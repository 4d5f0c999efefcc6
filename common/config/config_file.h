// A --config file: TOML, one flat table of options.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

// What a key holds: its type as TOML has it, and its text as a flag would have it.
struct ConfigValue {
  enum class Type { kString, kInteger, kFloat, kBoolean, kStrings };
  Type type = Type::kString;
  std::vector<std::string> texts;  // one, but for kStrings
  int line = 0;
};
const char* ConfigTypeName(ConfigValue::Type type);

using ConfigFile = std::map<std::string, ConfigValue>;

// Errors begin with "NAME:LINE: ". A byte order mark and CRLF are as nothing. Refused by name:
// sections, arrays of anything but strings, dates, strings that hold a NUL.
absl::StatusOr<ConfigFile> ParseConfig(absl::string_view toml, const std::string& name);

// Of the file or pipe at `path`, of at most kConfigFileBytesMax.
absl::StatusOr<ConfigFile> ReadConfigFile(const std::string& path);

}  // namespace pregate
