#include "common/config/help_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace pregate {
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
