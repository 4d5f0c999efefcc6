#include "common/config/command_line.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/base/status.h"

namespace pregate {

namespace {

constexpr size_t kNameBytesMax = 64;  // of what is worth a guess

std::string Folded(absl::string_view name) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"_", "-"}}));
}

// Damerau-Levenshtein distance (optimal string alignment).
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] = std::min(
          {cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string Suggestion(absl::string_view name, const std::vector<std::string>& names,
                       absl::string_view prefix) {
  if (name.empty() || name.size() > kNameBytesMax) return "";
  const std::string meant = Folded(name);
  size_t nearest = std::max<size_t>(1, meant.size() / 3) + 1;  // no guess from there on
  const std::string* best = nullptr;
  for (const std::string& candidate : names) {
    const auto [shorter, longer] = std::minmax({meant.size(), candidate.size()});
    if (longer - shorter >= nearest) continue;  // at least so many are inserted or deleted
    const size_t distance = Distance(meant, Folded(candidate));
    if (distance >= nearest) continue;
    nearest = distance;
    best = &candidate;
  }
  return best == nullptr ? "" : absl::StrCat("; did you mean ", prefix, *best, "?");
}

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

namespace {

constexpr size_t kColumns = 100, kIndent = 30;

constexpr char kSources[] =
    "Each option is also the environment variable in braces and, without its dashes, a key of the\n"
    "TOML file that --config names. A flag goes before the environment, which goes before the "
    "file.\n";

std::string Describe(const OptionHelp& option) {
  std::string text = option.description;
  if (!option.unit.empty()) absl::StrAppend(&text, " [", option.unit, "]");
  if (option.required) {
    absl::StrAppend(&text, " (required)");
  } else if (!option.default_text.empty()) {
    absl::StrAppend(&text, " (default ", option.default_text, ")");
  }
  if (!option.environment.empty()) absl::StrAppend(&text, " {", option.environment, "}");
  return text;
}

// Words in lines of at most kColumns, from column kIndent on.
std::string Wrapped(const std::string& text) {
  std::string out;
  size_t column = kIndent;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const bool fits = column == kIndent || column + 1 + word.size() <= kColumns;
    if (!fits) {
      absl::StrAppend(&out, "\n", std::string(kIndent, ' '));
      column = kIndent;
    } else if (column > kIndent) {
      out += ' ';
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out;
}

std::string OptionLine(const OptionHelp& option) {
  std::string left = absl::StrCat("  --", option.name);
  if (!option.placeholder.empty()) absl::StrAppend(&left, " ", option.placeholder);
  const std::string gap = left.size() + 2 > kIndent ? absl::StrCat("\n", std::string(kIndent, ' '))
                                                    : std::string(kIndent - left.size(), ' ');
  return absl::StrCat(left, gap, Wrapped(Describe(option)), "\n");
}

std::string Positionals(absl::Span<const OptionHelp> options) {
  std::string text;
  for (const OptionHelp& option : options) {
    if (option.positional) absl::StrAppend(&text, " ", absl::AsciiStrToUpper(option.name));
  }
  return text;
}

}  // namespace

std::string HelpText(const std::string& program, const std::string& description,
                     absl::Span<const OptionHelp> options) {
  std::string text = absl::StrCat("usage: ", program, " [OPTIONS]", Positionals(options), "\n\n",
                                  description, "\n");
  std::vector<std::string> groups;
  for (const OptionHelp& option : options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  for (const std::string& group : groups) {
    absl::StrAppend(&text, "\n", group, ":\n");
    for (const OptionHelp& option : options) {
      if (option.group == group) text += OptionLine(option);
    }
  }
  return absl::StrCat(text, "\n", kSources);
}

std::string OptionList(absl::Span<const OptionHelp> options) {
  std::string text;
  for (const OptionHelp& option : options) {
    absl::StrAppend(&text, "--", option.name, "|", absl::StrJoin(option.choices, " "), "|",
                    option.description, "\n");
  }
  return text;
}

}  // namespace pregate
