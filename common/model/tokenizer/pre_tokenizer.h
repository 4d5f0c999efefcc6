// Pre-tokenization: text is cut into words before a model makes tokens of them, which never cross a
// word's end.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pregate {

// The words of one text, in order. They point into the text or into `changed`.
struct Words {
  struct Word {
    std::string_view text;
    bool begins_text;  // nothing of the whole input stands before it
  };
  std::vector<Word> words;
  std::deque<std::string> changed;  // words that are spelled otherwise than in the text
};

// One step, which cuts a word further or spells it otherwise. Immutable; thread-safe.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  // Appends what becomes of `word`. REQUIRES: it is not empty, and well-formed UTF-8.
  virtual void Apply(const Words::Word& word, Words* out) const = 0;
};

// The steps one after another. Immutable; thread-safe.
class PreTokenizer {
 public:
  // As tokenizer.json's "pre_tokenizer" has it; null leaves texts whole. Errors begin with `where`
  // and name the step and the field; Unimplemented for a step that is not known.
  static absl::StatusOr<PreTokenizer> Make(const nlohmann::json& value, const std::string& where);

  // Whether words become bytes in the alphabet of byte-level models: the last step is ByteLevel.
  bool byte_level() const { return byte_level_; }
  Words Split(std::string_view text, bool begins_text) const;

 private:
  std::vector<std::unique_ptr<const PreTokenizerStep>> steps_;
  bool byte_level_ = false;
};

// The "pre_tokenizer" of a tokenizer.json that a GGUF name stands for (published_regexes.h).
absl::StatusOr<nlohmann::json> PreTokenizerFromName(std::string_view name);

// The name whose "pre_tokenizer" cuts as this one; empty where there is none.
std::string NameOfPreTokenizer(const nlohmann::json& value);

}  // namespace pregate
