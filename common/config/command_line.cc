#include "common/config/command_line.h"

#include <CLI/CLI.hpp>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/config/limits.h"

namespace pregate {
namespace {

std::string Describe(const FlagDeclaration& flag) {
  std::string text = flag.description;
  if (!flag.unit.empty()) absl::StrAppend(&text, " [", flag.unit, "]");
  if (flag.required) {
    absl::StrAppend(&text, " (required)");
  } else if (!flag.default_text.empty()) {
    absl::StrAppend(&text, " (default ", flag.default_text, ")");
  }
  return absl::StrCat(text, " {", flag.environment, "}");
}

CLI::Option* Declare(CLI::App& app, const FlagDeclaration& flag, std::string* value) {
  const std::string names =
      absl::StrCat("--", flag.name, flag.positional ? absl::StrCat(",", flag.name) : "");
  if (flag.is_switch) return app.add_flag(names, *value, Describe(flag));
  return app.add_option(names, *value, Describe(flag))->type_name("")->allow_extra_args(false);
}

}  // namespace

absl::StatusOr<ParsedCommandLine> ParseCommandLine(const std::string& program,
                                                   const std::string& description,
                                                   absl::Span<const FlagDeclaration> flags,
                                                   int argc, const char* const* argv) {
  CLI::App app(description, program);
  ParsedCommandLine parsed;
  std::vector<std::string> texts(flags.size());
  std::vector<CLI::Option*> options;
  for (size_t i = 0; i < flags.size(); ++i) {
    options.push_back(Declare(app, flags[i], &texts[i]));
  }
  app.add_option("--config", parsed.config_file,
                 "TOML or INI file with any of these options {PREGATE_CONFIG}")
      ->type_name("");
  app.add_flag("--print-config", parsed.print_config,
               "Print all effective values as JSON and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.help = app.help();
    return parsed;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), " (see --help)"));
  }
  for (size_t i = 0; i < flags.size(); ++i) {
    if (options[i]->count() > 0) parsed.values[flags[i].name] = texts[i];
  }
  return parsed;
}

absl::StatusOr<ConfigFileValues> ReadConfigFile(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat("--config ", path, ": ", error.message()));
  if (bytes > kConfigFileBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config ", path, ": ", bytes, " bytes, at most ", kConfigFileBytesMax));
  }
  ConfigFileValues values;
  try {
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_file(path)) {
      if (!item.parents.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--config ", path, ": section ", item.parents.front(), " is not known"));
      }
      if (!values.emplace(item.name, absl::StrJoin(item.inputs, ",")).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("--config ", path, ": ", item.name, " is given twice"));
      }
    }
  } catch (const CLI::Error& parse_error) {
    return absl::InvalidArgumentError(absl::StrCat("--config ", path, ": ", parse_error.what()));
  }
  return values;
}

}  // namespace pregate
