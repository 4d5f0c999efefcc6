#include "common/config/option_set.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/sha256.h"
#include "common/base/status.h"
#include "common/config/command_line.h"
#include "common/config/values.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

template <typename T>
absl::Status CheckRange(T value, T min, T max, absl::string_view unit) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(value, " is outside of ", min, " to ", max, unit.empty() ? "" : " ", unit));
}

}  // namespace

const char* OptionSourceName(OptionSource source) {
  switch (source) {
    case OptionSource::kDefault:
      return "default";
    case OptionSource::kFile:
      return "file";
    case OptionSource::kEnvironment:
      return "environment";
    case OptionSource::kFlag:
      return "flag";
  }
  return "";
}

std::string EnvironmentName(absl::string_view option_name) {
  return absl::StrCat("PREGATE_",
                      absl::AsciiStrToUpper(absl::StrReplaceAll(option_name, {{"-", "_"}})));
}

OptionSet::OptionSet(std::string program, std::string description)
    : program_(std::move(program)), description_(std::move(description)) {}
OptionSet::~OptionSet() = default;

Option& OptionSet::Add(std::string name, std::string unit, std::string description) {
  for (const auto& option : options_) PREGATE_CHECK(option->name_ != name, "option declared twice");
  options_.push_back(std::make_unique<Option>());
  Option& option = *options_.back();
  option.name_ = std::move(name);
  option.unit_ = std::move(unit);
  option.description_ = std::move(description);
  return option;
}

Option& OptionSet::String(std::string name, std::string* value, std::string description) {
  Option& option = Add(std::move(name), "", std::move(description));
  option.parse_ = [value](absl::string_view text) {
    *value = std::string(text);
    return absl::OkStatus();
  };
  option.print_ = [value] { return *value; };
  return option;
}

Option& OptionSet::Strings(std::string name, std::vector<std::string>* value,
                           std::string description) {
  Option& option = Add(std::move(name), "comma-separated", std::move(description));
  option.parse_ = [value](absl::string_view text) -> absl::Status {
    *value = absl::StrSplit(text, ',', absl::SkipWhitespace());
    for (std::string& item : *value) absl::StripAsciiWhitespace(&item);
    return absl::OkStatus();
  };
  option.print_ = [value] { return absl::StrJoin(*value, ","); };
  return option;
}

Option& OptionSet::Choice(std::string name, std::string* value, std::vector<std::string> choices,
                          std::string description) {
  Option& option = Add(std::move(name), absl::StrJoin(choices, "|"), std::move(description));
  option.parse_ = [value, choices = std::move(choices)](absl::string_view text) -> absl::Status {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", text, "' is not one of ", absl::StrJoin(choices, ", ")));
    }
    *value = std::string(text);
    return absl::OkStatus();
  };
  option.print_ = [value] { return *value; };
  return option;
}

Option& OptionSet::Int(std::string name, int32_t* value, int32_t min, int32_t max, std::string unit,
                       std::string description) {
  Option& option = Add(std::move(name), unit, std::move(description));
  option.parse_ = [=](absl::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t parsed, ParseInt(text));
    RETURN_IF_ERROR(CheckRange<int64_t>(parsed, min, max, unit));
    *value = static_cast<int32_t>(parsed);
    return absl::OkStatus();
  };
  option.print_ = [value] { return absl::StrCat(*value); };
  return option;
}

Option& OptionSet::OptionalUint64(std::string name, std::optional<uint64_t>* value,
                                  std::string description) {
  Option& option = Add(std::move(name), "", std::move(description));
  option.parse_ = [value](absl::string_view text) -> absl::Status {
    uint64_t parsed = 0;
    if (!absl::SimpleAtoi(text, &parsed)) {
      return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not a number below 2^64"));
    }
    *value = parsed;
    return absl::OkStatus();
  };
  option.print_ = [value] { return value->has_value() ? absl::StrCat(**value) : std::string(); };
  return option;
}

Option& OptionSet::Double(std::string name, double* value, double min, double max, std::string unit,
                          std::string description) {
  Option& option = Add(std::move(name), unit, std::move(description));
  option.parse_ = [=](absl::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const double parsed, ParseDouble(text));
    RETURN_IF_ERROR(CheckRange(parsed, min, max, unit));
    *value = parsed;
    return absl::OkStatus();
  };
  option.print_ = [value] { return absl::StrCat(*value); };
  return option;
}

Option& OptionSet::Bytes(std::string name, int64_t* value, int64_t min, int64_t max,
                         std::string description) {
  Option& option = Add(std::move(name), "bytes", std::move(description));
  option.parse_ = [=](absl::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t parsed, ParseBytes(text));
    if (parsed < min || parsed > max) {
      return absl::InvalidArgumentError(absl::StrCat(FormatBytes(parsed), " is outside of ",
                                                     FormatBytes(min), " to ", FormatBytes(max)));
    }
    *value = parsed;
    return absl::OkStatus();
  };
  option.print_ = [value] { return FormatBytes(*value); };
  return option;
}

Option& OptionSet::Duration(std::string name, absl::Duration* value, absl::Duration min,
                            absl::Duration max, std::string description) {
  const bool is_ms = absl::EndsWith(name, "-ms");
  PREGATE_CHECK(is_ms || absl::EndsWith(name, "-s"), "unit of ", name);
  const absl::Duration unit = is_ms ? absl::Milliseconds(1) : absl::Seconds(1);
  const std::string unit_name = is_ms ? "ms" : "s";
  Option& option = Add(std::move(name), unit_name, std::move(description));
  option.parse_ = [=](absl::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const double parsed, ParseDouble(text));
    RETURN_IF_ERROR(CheckRange(parsed, absl::FDivDuration(min, unit), absl::FDivDuration(max, unit),
                               unit_name));
    *value = parsed * unit;
    return absl::OkStatus();
  };
  option.print_ = [=] { return absl::StrCat(absl::FDivDuration(*value, unit)); };
  return option;
}

Option& OptionSet::Switch(std::string name, bool* value, std::string description) {
  Option& option = Add(std::move(name), "", std::move(description));
  option.is_switch_ = true;
  option.parse_ = [value](absl::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(*value, ParseBool(text));
    return absl::OkStatus();
  };
  option.print_ = [value] { return std::string(*value ? "true" : "false"); };
  return option;
}

absl::Status OptionSet::Apply(Option& option, OptionSource source, absl::string_view where,
                              absl::string_view text) {
  const absl::Status status = option.parse_(text);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
  }
  option.source_ = source;
  return absl::OkStatus();
}

absl::Status OptionSet::Resolve(const CommandLineValues& line, const Environment& environment) {
  ConfigFileValues file;
  if (!config_file_.empty()) {
    ASSIGN_OR_RETURN(file, ReadConfigFile(config_file_));
  }
  for (const auto& option : options_) {
    const std::string& name = option->name_;
    const std::string variable = EnvironmentName(name);
    const char* const from_environment = environment(variable.c_str());
    const auto in_file = file.find(name);
    if (const auto flag = line.find(name); flag != line.end()) {
      RETURN_IF_ERROR(Apply(*option, OptionSource::kFlag, absl::StrCat("--", name), flag->second));
    } else if (from_environment != nullptr && *from_environment != '\0') {
      RETURN_IF_ERROR(Apply(*option, OptionSource::kEnvironment, variable, from_environment));
    } else if (in_file != file.end()) {
      RETURN_IF_ERROR(Apply(*option, OptionSource::kFile, absl::StrCat(config_file_, ": ", name),
                            in_file->second));
    } else if (option->required_) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is required (or ", variable,
                                                     ", or ", name, " in the --config file)"));
    }
    file.erase(name);
  }
  if (!file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config_file_, ": unknown key ", file.begin()->first));
  }
  return absl::OkStatus();
}

absl::StatusOr<OptionSet::Outcome> OptionSet::Parse(int argc, const char* const* argv,
                                                    const Environment& environment,
                                                    std::ostream& out) {
  std::vector<FlagDeclaration> flags;
  for (const auto& option : options_) {
    flags.push_back({option->name_, option->unit_, option->description_, option->print_(),
                     EnvironmentName(option->name_), option->is_switch_, option->positional_,
                     option->required_});
  }
  ASSIGN_OR_RETURN(ParsedCommandLine line,
                   ParseCommandLine(program_, description_, flags, argc, argv));
  if (!line.help.empty()) {
    out << line.help;
    return Outcome::kExit;
  }
  config_file_ = line.config_file;
  const char* const file = environment("PREGATE_CONFIG");
  if (config_file_.empty() && file != nullptr) config_file_ = file;
  RETURN_IF_ERROR(Resolve(line.values, environment));
  if (line.print_config) {
    out << ToJson() << "\n";
    return Outcome::kExit;
  }
  return Outcome::kRun;
}

absl::StatusOr<OptionSet::Outcome> OptionSet::Parse(int argc, const char* const* argv) {
  return Parse(
      argc, argv, [](const char* name) { return std::getenv(name); }, std::cout);
}

std::string OptionSet::ToJson() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& option : options_) {
    auto& entry = json[option->name_];
    entry["value"] = option->print_();
    if (!option->unit_.empty()) entry["unit"] = option->unit_;
    entry["source"] = OptionSourceName(option->source_);
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string OptionSet::ToText() const {
  return absl::StrJoin(options_, " ", [](std::string* out, const auto& option) {
    absl::StrAppend(out, option->name_, "=", option->print_());
  });
}

std::string OptionSet::ClusterDigest() const {
  std::vector<std::string> lines;
  for (const auto& option : options_) {
    if (option->cluster_wide_) lines.push_back(absl::StrCat(option->name_, "=", option->print_()));
  }
  std::sort(lines.begin(), lines.end());
  Sha256 hash;
  for (const std::string& line : lines) hash.Update(line + "\n");
  return hash.HexDigest();
}

OptionSource OptionSet::SourceOf(absl::string_view name) const {
  const auto it = std::find_if(options_.begin(), options_.end(),
                               [&](const auto& option) { return option->name_ == name; });
  PREGATE_CHECK(it != options_.end(), "no option ", name);
  return (*it)->source_;
}

}  // namespace pregate
