// argv as texts by flag. Values stay what they are, byte for byte; OptionSet checks them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

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

}  // namespace pregate
