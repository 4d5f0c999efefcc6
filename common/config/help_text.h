// What --help prints, and what shell completion reads.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"

namespace pregate {

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
