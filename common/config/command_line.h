// The part of the options that CLI11 does: splitting argv, help text, reading TOML or INI files.
// Values stay text here; OptionSet turns them into values, so all sources share one check.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

struct FlagDeclaration {
  std::string name, unit, description, default_text, environment;
  bool is_switch = false, positional = false, required = false;
};

using CommandLineValues = std::map<std::string, std::string>;  // option name -> text
using ConfigFileValues = std::map<std::string, std::string>;   // lists joined by ','

struct ParsedCommandLine {
  CommandLineValues values;
  std::string help;  // not empty when --help was given
  std::string config_file;
  bool print_config = false;
};

// Adds --help, --config and --print-config to the flags declared. Unknown flags are errors.
absl::StatusOr<ParsedCommandLine> ParseCommandLine(const std::string& program,
                                                   const std::string& description,
                                                   absl::Span<const FlagDeclaration> flags,
                                                   int argc, const char* const* argv);

// Flat keys only: a section is refused by name.
absl::StatusOr<ConfigFileValues> ReadConfigFile(const std::string& path);

}  // namespace pregate
