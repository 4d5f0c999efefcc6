// What fuzzing knows of one format that comes from outside: files, messages, text. A new format is
// one file in formats/ that registers it; pregate-fuzz (libfuzzer_main.cc) and fuzz_test find it by
// its name.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate::fuzz {

using Mutator = std::function<std::string(std::string_view input, std::mt19937_64& random)>;

struct Format {
  std::string name;
  // Valid inputs that our own writers make: what is derived from them gets past the first check.
  std::function<std::vector<std::string>()> seeds;
  // Reads one input as a program would and goes on to use what was read. Returns whether it was
  // accepted, which seeds are. A crash, a broken property (PREGATE_CHECK), much time or much memory
  // is a finding.
  std::function<bool(std::string_view input)> run;
  // Changes that keep the structure, beside those of single bytes. Empty: none.
  Mutator mutate;
  size_t bytes_max = 16 << 10;  // of an input that fuzzing makes
};

// As the readers want it that take Abseil's.
inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }

class Registration {
 public:
  explicit Registration(Format format);
};

const std::vector<Format>& AllFormats();          // by name
const Format* FindFormat(std::string_view name);  // null: none of that name

}  // namespace pregate::fuzz
