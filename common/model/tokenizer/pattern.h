// A regular expression of ours (never one from a file, but published_regexes.h), compiled by PCRE2.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "common/model/tokenizer/text_pattern.h"

namespace pregate {

// Immutable; thread-safe. Texts are well-formed UTF-8.
class Pattern {
 public:
  // REQUIRES: an expression that matches no empty text and takes time linear in it, so that PCRE2's
  // limits are out of reach for any text.
  explicit Pattern(const char* source);
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) = delete;

  // Appends its matches, from left to right.
  void FindAll(std::string_view text, std::vector<TextMatch>* matches) const;
  bool Matches(std::string_view text) const;  // anywhere

 private:
  class Code;
  std::unique_ptr<const Code> code_;
};

}  // namespace pregate
