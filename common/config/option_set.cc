#include "common/config/option_set.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/command_line.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

constexpr char kGeneralGroup[] = "General";

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
    : program_(std::move(program)), description_(std::move(description)), group_(kGeneralGroup) {
  String("config", &built_in_.config, "TOML file with any of these options");
  Switch("print-config", &built_in_.print_config,
         "print all effective values, and the limits that are no options, as JSON and exit");
  Switch("list-options", &built_in_.list_options, "print the options for a shell's completion");
  Switch("version", &built_in_.version, "print version and commit and exit");
  Switch("help", &built_in_.help, "print this and exit");
  for (const auto& option : options_) {
    option->is_built_in_ = true;
    if (option->name_ != "config") option->environment_.clear();
  }
  Group();
}
OptionSet::~OptionSet() = default;

Option& OptionSet::Add(std::string name, std::string unit, std::string description) {
  for (const auto& option : options_) PREGATE_CHECK(option->name_ != name, "option declared twice");
  options_.push_back(std::make_unique<Option>());
  Option& option = *options_.back();
  option.environment_ = EnvironmentName(name);
  option.name_ = std::move(name);
  option.group_ = group_;
  option.unit_ = std::move(unit);
  option.description_ = std::move(description);
  return option;
}

Option& OptionSet::Find(absl::string_view name) const {
  const auto it = std::find_if(options_.begin(), options_.end(),
                               [&](const auto& option) { return option->name_ == name; });
  PREGATE_CHECK(it != options_.end(), "no option ", name);
  return **it;
}

void OptionSet::Alternatives(std::vector<std::string> names, bool together) {
  for (const std::string& name : names) Find(name);
  alternatives_.push_back({std::move(names), together});
}

void OptionSet::OnlyWith(std::string alternative, std::vector<std::string> names) {
  for (const std::string& name : names) Find(name);
  Find(alternative);
  companions_.push_back({std::move(alternative), std::move(names)});
}

std::vector<OptionHelp> OptionSet::Help() const {
  std::vector<OptionHelp> declared, built_in;
  for (const auto& o : options_) {
    (o->is_built_in_ ? built_in : declared)
        .push_back({.name = o->name_,
                    .placeholder = o->placeholder_,
                    .description = o->description_,
                    .unit = o->unit_,
                    .default_text = o->is_built_in_ ? "" : o->print_(),
                    .environment = o->environment_,
                    .group = o->group_,
                    .choices = o->choices_,
                    .required = o->required_,
                    .positional = o->positional_});
  }
  declared.insert(declared.end(), built_in.begin(), built_in.end());
  return declared;
}

std::optional<OptionSet::Candidate> OptionSet::FromFlagOrEnvironment(
    const Option& option, const FlagTexts& flags, const Environment& environment) {
  if (const auto flag = flags.find(option.name_); flag != flags.end()) {
    return Candidate{OptionSource::kFlag, absl::StrCat("--", option.name_), flag->second};
  }
  if (option.environment_.empty()) return std::nullopt;
  const char* const text = environment(option.environment_.c_str());
  if (text == nullptr || *text == '\0') return std::nullopt;
  return Candidate{OptionSource::kEnvironment, option.environment_, {text}};
}

absl::StatusOr<OptionSet::Candidate> OptionSet::FromFile(const Option& option,
                                                         const ConfigValue& value) const {
  const std::string where = absl::StrCat(built_in_.config, ":", value.line, ": ", option.name_);
  const auto& types = option.file_types_;
  if (std::find(types.begin(), types.end(), value.type) != types.end()) {
    return Candidate{OptionSource::kFile, where, value.texts};
  }
  const std::string expected = absl::StrJoin(types, " or ", [](std::string* out, auto type) {
    absl::StrAppend(out, ConfigTypeName(type));
  });
  return absl::InvalidArgumentError(
      absl::StrCat(where, " is ", ConfigTypeName(value.type), ", must be ", expected));
}

absl::Status OptionSet::CheckKeys(const ConfigFile& file) const {
  std::vector<std::string> names;
  for (const auto& option : options_) {
    if (!option->is_built_in_) names.push_back(option->name_);
  }
  for (const auto& [key, value] : file) {
    if (std::find(names.begin(), names.end(), key) != names.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat(built_in_.config, ":", value.line,
                                                   ": unknown key ", absl::Utf8SafeCEscape(key),
                                                   Suggestion(key, names)));
  }
  return absl::OkStatus();
}

absl::StatusOr<OptionSet::Candidates> OptionSet::Collect(const FlagTexts& flags,
                                                         const Environment& environment) const {
  ConfigFile file;
  if (!built_in_.config.empty()) {
    ASSIGN_OR_RETURN(file, ReadConfigFile(built_in_.config));
    RETURN_IF_ERROR(CheckKeys(file));
  }
  Candidates candidates;
  for (const auto& option : options_) {
    if (option->is_built_in_) continue;
    auto candidate = FromFlagOrEnvironment(*option, flags, environment);
    const auto in_file = file.find(option->name_);
    if (!candidate && in_file != file.end()) {
      ASSIGN_OR_RETURN(candidate, FromFile(*option, in_file->second));
    }
    if (candidate) candidates.emplace(option->name_, *std::move(candidate));
  }
  return candidates;
}

OptionSource OptionSet::StrongestOf(const std::vector<std::string>& names,
                                    const Candidates& candidates) {
  OptionSource strongest = OptionSource::kDefault;
  for (const std::string& name : names) {
    const auto it = candidates.find(name);
    if (it != candidates.end() && it->second.chooses()) {
      strongest = std::max(strongest, it->second.source);
    }
  }
  return strongest;
}

absl::Status OptionSet::ChooseAlternatives(Candidates* candidates) const {
  for (const auto& [names, together] : alternatives_) {
    const OptionSource strongest = StrongestOf(names, *candidates);
    const Candidate* chosen = nullptr;
    for (const std::string& name : names) {
      const auto it = candidates->find(name);
      if (it == candidates->end() || !it->second.chooses()) continue;
      if (it->second.source < strongest) {
        candidates->erase(it);
      } else if (chosen != nullptr && !together) {
        return absl::InvalidArgumentError(
            absl::StrCat("give either --", absl::StrJoin(names, " or --"), ": there are ",
                         chosen->where, " and ", it->second.where));
      } else {
        chosen = &it->second;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status OptionSet::DropCompanions(Candidates* candidates) const {
  for (const Companions& companions : companions_) {
    const auto group =
        std::find_if(alternatives_.begin(), alternatives_.end(), [&](const AlternativeNames& a) {
          return std::find(a.names.begin(), a.names.end(), companions.alternative) != a.names.end();
        });
    PREGATE_CHECK(group != alternatives_.end(), "no alternative ", companions.alternative);
    const OptionSource chosen = StrongestOf(group->names, *candidates);
    const bool goes = StrongestOf({companions.alternative}, *candidates) != OptionSource::kDefault;
    if (goes || chosen == OptionSource::kDefault) continue;
    for (const std::string& name : companions.names) {
      const auto it = candidates->find(name);
      if (it == candidates->end()) continue;
      if (it->second.source >= chosen && it->second.source != OptionSource::kEnvironment) {
        return absl::InvalidArgumentError(
            absl::StrCat(it->second.where, " goes with --", companions.alternative));
      }
      candidates->erase(it);
    }
  }
  return absl::OkStatus();
}

absl::Status OptionSet::Apply(Option& option, const Candidate& candidate) {
  const absl::Status status = option.parse_(candidate.texts);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(candidate.where, ": ", status.message()));
  }
  option.source_ = candidate.source;
  return absl::OkStatus();
}

absl::Status OptionSet::ApplyAll(const Candidates& candidates) {
  for (const auto& option : options_) {
    const std::string& name = option->name_;
    if (const auto it = candidates.find(name); it != candidates.end()) {
      RETURN_IF_ERROR(Apply(*option, it->second));
    } else if (option->required_) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is required (or ",
                                                     option->environment_, ", or ", name,
                                                     " in the --config file)"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OptionSet::Outcome> OptionSet::Parse(int argc, const char* const* argv,
                                                    const Environment& environment,
                                                    std::ostream& out) {
  std::vector<FlagDeclaration> declarations;
  for (const auto& o : options_) {
    declarations.push_back({o->name_, o->is_switch_, o->is_list_, o->positional_});
  }
  ASSIGN_OR_RETURN(const FlagTexts flags, ParseCommandLine(declarations, argc, argv));
  for (const auto& option : options_) {
    if (!option->is_built_in_) continue;
    if (const auto candidate = FromFlagOrEnvironment(*option, flags, environment)) {
      RETURN_IF_ERROR(Apply(*option, *candidate));
    }
  }
  if (built_in_.help || built_in_.version || built_in_.list_options) {
    out << (built_in_.help      ? HelpText(program_, description_, Help())
            : built_in_.version ? absl::StrCat(program_, " ", VersionText(), "\n")
                                : OptionList(Help()));
    return Outcome::kExit;
  }
  ASSIGN_OR_RETURN(Candidates candidates, Collect(flags, environment));
  RETURN_IF_ERROR(ChooseAlternatives(&candidates));
  RETURN_IF_ERROR(DropCompanions(&candidates));
  RETURN_IF_ERROR(ApplyAll(candidates));
  if (built_in_.print_config) {
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
    if (option->is_built_in_) continue;
    auto& entry = json[option->name_];
    entry["value"] = option->print_();
    if (!option->unit_.empty()) entry["unit"] = option->unit_;
    entry["source"] = OptionSourceName(option->source_);
  }
  auto& limits = json["limits"];
  for (const Limit& limit : AllLimits()) {
    limits[limit.name] = {{"value", limit.value}, {"unit", limit.unit}, {"meaning", limit.meaning}};
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string OptionSet::ToText(bool given_only) const {
  std::vector<std::string> texts;
  for (const auto& option : options_) {
    if (option->is_built_in_) continue;
    if (given_only && option->source_ == OptionSource::kDefault) continue;
    texts.push_back(absl::StrCat(option->name_, "=", option->print_()));
  }
  return absl::StrJoin(texts, " ");
}

std::vector<std::string> OptionSet::ToArguments() const {
  std::vector<std::string> arguments;
  for (const auto& option : options_) {
    if (option->is_built_in_ || option->source_ == OptionSource::kDefault) continue;
    arguments.push_back(absl::StrCat("--", option->name_, "=", option->print_()));
  }
  return arguments;
}

OptionSource OptionSet::SourceOf(absl::string_view name) const { return Find(name).source_; }

}  // namespace pregate
