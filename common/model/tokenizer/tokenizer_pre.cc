#include "common/model/tokenizer/tokenizer_pre.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/status.h"
#include "common/model/tokenizer/pattern.h"

namespace pregate {
namespace {

// White space is Unicode's White_Space here. PCRE2's \s has U+180E as well, so it is spelled out;
// S stands for it inside a class.
#define S "\\t\\n\\x{0B}\\f\\r\\x{85}\\p{Z}"

// GPT-2: contractions, then letters, numbers or others, each with the space before it, then white
// space, of which a run leaves its last character to the word that follows.
constexpr const char* kGpt2 = "'(?:[stmd]|re|ve|ll)| ?\\p{L}++| ?\\p{N}++| ?[^" S
                              "\\p{L}\\p{N}]++|[" S "]+(?![^" S "])|[" S "]";

// SmolLM: digits stand alone, and what is between them is cut like GPT-2's. So a number ends a run
// of white space as the end of the text does.
constexpr const char* kSmollm = "\\p{N}|'(?:[stmd]|re|ve|ll)| ?\\p{L}++| ?[^" S
                                "\\p{L}\\p{N}]++|[" S "]+(?![^" S "\\p{N}])|[" S "]";

// Llama-3: contractions in either case, letters with any one sign before them, numbers in threes,
// line ends kept with the white space or signs before them.
constexpr const char* kLlama3 =
    "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}++|\\p{N}{1,3}+"
    "| ?[^" S "\\p{L}\\p{N}]++[\\r\\n]*+|[" S "]*[\\r\\n]++|[" S "]+(?![^" S "])|[" S "]";

#undef S

struct Definition {
  const char* name;
  std::vector<const char*> aliases;
  std::vector<const char*> patterns;  // each cuts the words that the one before it left
};

const std::vector<Definition>& Definitions() {
  static const auto& definitions = *new std::vector<Definition>{
      {"smollm", {}, {kSmollm}},
      {"gpt2", {"gpt-2"}, {kGpt2}},
      {"llama-bpe", {"llama3", "llama-v3"}, {kLlama3}},
      {"default", {""}, {"[\\p{P}$+<=>^~|]++", kGpt2, "\\p{N}++", "[0-9]{3}"}},
  };
  return definitions;
}

class PatternPreTokenizer final : public PreTokenizer {
 public:
  explicit PatternPreTokenizer(const std::vector<const char*>& sources) {
    for (const char* source : sources) patterns_.emplace_back(source);
  }

  std::vector<std::string_view> Split(std::string_view text) const override {
    std::vector<std::string_view> words = {text};
    for (const Pattern& pattern : patterns_) {
      std::vector<std::string_view> cut;
      for (const std::string_view word : words) pattern.Cut(word, &cut);
      words = std::move(cut);
    }
    return words;
  }

 private:
  std::vector<Pattern> patterns_;
};

}  // namespace

absl::StatusOr<std::string> CanonicalPreTokenizer(std::string_view name) {
  for (const Definition& definition : Definitions()) {
    const auto& aliases = definition.aliases;
    if (name == definition.name ||
        std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
      return std::string(definition.name);
    }
  }
  return absl::UnimplementedError(
      absl::StrCat("pre_tokenizer \"", std::string(name.substr(0, 64)),
                   "\" is not supported (smollm, gpt2, llama-bpe and default are)"));
}

std::unique_ptr<PreTokenizer> PreTokenizer::Make(std::string_view canonical_name) {
  for (const Definition& definition : Definitions()) {
    if (canonical_name == definition.name) {
      return std::make_unique<PatternPreTokenizer>(definition.patterns);
    }
  }
  CheckFailed(__FILE__, __LINE__, "canonical_name", std::string(canonical_name));
}

}  // namespace pregate
