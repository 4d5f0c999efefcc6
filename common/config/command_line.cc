#include "common/config/command_line.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"
#include "common/config/suggestion.h"

namespace pregate {
namespace {

constexpr absl::string_view kDashes = "--";

class CommandLine {
 public:
  CommandLine(absl::Span<const FlagDeclaration> flags, int argc, const char* const* argv)
      : flags_(flags), args_(argv + 1, argv + argc) {}

  absl::StatusOr<FlagTexts> Parse() {
    bool only_positional = false;
    while (next_ < args_.size()) {
      const absl::string_view arg = args_[next_++];
      if (arg == kDashes && !only_positional) {
        only_positional = true;
      } else if (only_positional || arg.size() < 2 || arg[0] != '-') {
        RETURN_IF_ERROR(TakePositional(arg));
      } else {
        RETURN_IF_ERROR(TakeFlag(arg));
      }
    }
    return std::move(texts_);
  }

 private:
  const FlagDeclaration* Find(absl::string_view name) const {
    for (const FlagDeclaration& flag : flags_) {
      if (flag.name == name) return &flag;
    }
    return nullptr;
  }

  // The flag that `arg` reads as, if any.
  const FlagDeclaration* FlagOf(absl::string_view arg) const {
    if (arg == "-h") return Find("help");
    if (!absl::StartsWith(arg, kDashes)) return nullptr;
    return Find(arg.substr(kDashes.size(), arg.find('=') - kDashes.size()));
  }

  absl::Status TakeFlag(absl::string_view arg) {
    const FlagDeclaration* const flag = FlagOf(arg);
    if (flag == nullptr) return Unknown(arg);
    const size_t equals = arg.find('=');
    if (equals != arg.npos) return Add(*flag, arg.substr(equals + 1));
    if (flag->is_switch) return Add(*flag, "true");
    if (next_ == args_.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value"));
    }
    const absl::string_view value = args_[next_++];
    if (FlagOf(value) == nullptr) return Add(*flag, value);
    return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value; if ", value,
                                                   " is meant, write --", flag->name, "=", value));
  }

  absl::Status TakePositional(absl::string_view arg) {
    for (const FlagDeclaration& flag : flags_) {
      if (flag.positional && texts_.count(flag.name) == 0) return Add(flag, arg);
    }
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", arg, "' (see --help)"));
  }

  absl::Status Add(const FlagDeclaration& flag, absl::string_view text) {
    std::vector<std::string>& texts = texts_[flag.name];
    if (flag.is_switch) texts.clear();  // the last one counts
    if (!texts.empty() && !flag.is_list) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag.name, " is given twice"));
    }
    texts.emplace_back(text);
    return absl::OkStatus();
  }

  absl::Status Unknown(absl::string_view arg) const {
    std::vector<std::string> names;
    for (const FlagDeclaration& flag : flags_) names.push_back(flag.name);
    const absl::string_view shown = arg.substr(0, arg.find('='));
    const absl::string_view name = shown.substr(absl::StartsWith(shown, kDashes) ? 2 : 1);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown option ", shown, Suggestion(name, names, kDashes), " (see --help)"));
  }

  const absl::Span<const FlagDeclaration> flags_;
  const std::vector<absl::string_view> args_;
  size_t next_ = 0;
  FlagTexts texts_;
};

}  // namespace

absl::StatusOr<FlagTexts> ParseCommandLine(absl::Span<const FlagDeclaration> flags, int argc,
                                           const char* const* argv) {
  return CommandLine(flags, argc, argv).Parse();
}

}  // namespace pregate
