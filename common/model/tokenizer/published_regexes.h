// The regular expressions that published models cut texts by, as their tokenizer.json files spell
// them, and the names that GGUF files have for sets of them (tokenizer.ggml.pre).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

inline constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// All of them, for tests.
std::vector<std::string> PublishedRegexes();

// The expression for PCRE2 that finds what `regex` finds, where it is a published one.
std::optional<std::string> OwnFormOf(const std::string& regex);

// What a GGUF name stands for.
struct NamedPreTokenizer {
  const char* name;                       // of several that cut alike the first
  std::vector<const char*> aliases;       // "" is what files without a name mean
  std::vector<std::string_view> regexes;  // each cuts the words that the one before it left
  bool digits_apart = false;              // each digit is cut off before the first of them
};
const std::vector<NamedPreTokenizer>& NamedPreTokenizers();

// By name or alias; Unimplemented, naming it, where it is not known.
absl::StatusOr<const NamedPreTokenizer*> FindNamedPreTokenizer(std::string_view name);

// Whether a GGUF file of this name means that a word which is a token is not taken apart, and that
// prompts begin with bos unless it says no, as in llama.cpp.
bool MeansWholeWordsAndBos(std::string_view name);

}  // namespace pregate
