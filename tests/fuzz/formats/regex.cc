// A regular expression of a tokenizer.json, a line end, and the text that it is looked for in.
#include "common/model/tokenizer/regex.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::regex {
namespace {

// Matches stand behind each other and begin and end with characters.
void CheckMatches(std::string_view text, const std::vector<TextMatch>& matches) {
  size_t done = 0;
  for (const TextMatch& match : matches) {
    PREGATE_CHECK(done <= match.begin && match.begin <= match.end && match.end <= text.size());
    PREGATE_CHECK(IsUtf8(text.substr(done, match.begin - done)));
    PREGATE_CHECK(IsUtf8(text.substr(match.begin, match.end - match.begin)));
    done = match.end;
  }
}

bool Run(std::string_view input) {
  const size_t end = std::min(input.find('\n'), input.size());
  const auto regex = CompileRegex(std::string(input.substr(0, end)));
  if (!regex.ok()) return false;
  const std::string text = ReplaceStrayBytes(input.substr(std::min(end + 1, input.size())));
  std::vector<TextMatch> matches;
  (*regex)->FindAll(text, &matches);
  CheckMatches(text, matches);
  return true;
}

const Registration registration({.name = "regex",
                                 .seeds =
                                     [] {
                                       return std::vector<std::string>{
                                           "(?i:'s|'ll)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                           "\\s+(?!\\S)|\\s+\nIt's 1234  a\t",
                                           "[\\p{Lu}\\p{Lt}]*[^a-c&&[^x]]+(?<!a)\nABcx\xC3\x89",
                                           "x*|$\nxxa\n", "(?=b)|\\bA\nAb b"};
                                     },
                                 .run = Run,
                                 .mutate = {},
                                 .bytes_max = 512});

}  // namespace
}  // namespace pregate::fuzz::regex
