// argv as texts by flag. Values stay what they are, byte for byte; OptionSet checks them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

// What somebody who misspelt a name may have meant.

// "; did you mean PREFIXname?" with the nearest of `names`, or "" where none is near. Nearness
// counts inserted, deleted, replaced and swapped characters; '_' and '-' are one, as is case.
std::string Suggestion(absl::string_view name, const std::vector<std::string>& names,
                       absl::string_view prefix = "");

struct FlagDeclaration {
  std::string name;
  bool is_switch = false;   // "--name" alone means true; a value needs "--name=VALUE"
  bool is_list = false;     // may be given more than once
  bool positional = false;  // also taken without "--name", in the order of declaration
};

using FlagTexts = std::map<std::string, std::vector<std::string>>;  // by name, in order

// "--name VALUE" and "--name=VALUE"; "--" makes all that follows positional. A value may be empty
// or begin with '-', but one that reads as another flag needs the form with '=': most likely it was
// forgotten. Errors name the argument, and what is near to an unknown one.
absl::StatusOr<FlagTexts> ParseCommandLine(absl::Span<const FlagDeclaration> flags, int argc,
                                           const char* const* argv);

// What --help prints, and what shell completion reads.

struct OptionHelp {
  std::string name, placeholder, description, unit, default_text, environment;
  std::string group;                 // a heading; options of one group need not stand together
  std::vector<std::string> choices;  // empty: anything
  bool required = false, positional = false;
};

std::string HelpText(const std::string& program, const std::string& description,
                     absl::Span<const OptionHelp> options);

// For a shell's completion, a line an option: "--NAME|CHOICES, blank-separated|DESCRIPTION".
// Without choices anything goes; a switch needs nothing.
std::string OptionList(absl::Span<const OptionHelp> options);

}  // namespace pregate
