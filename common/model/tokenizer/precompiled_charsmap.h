// SentencePiece's compiled rules of normalisation: texts and what stands for them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

// Immutable after Read; thread-safe. Every step of the trie is checked: it comes from a file.
class PrecompiledCharsmap {
 public:
  PrecompiledCharsmap() = default;  // no rules
  // InvalidArgument for rules that are cut, point outside or write more than kRuleBytesMax.
  static absl::StatusOr<PrecompiledCharsmap> Read(std::string_view charsmap);

  static constexpr size_t kRuleBytesMax = 256;  // a file must not blow up a prompt

  struct Rule {
    std::string_view normal;  // what stands for it
    size_t length;            // bytes of the text; 0: there is none
  };
  // The rules that `text` begins with: the longest text and the shortest.
  Rule Longest(std::string_view text) const { return Find(text, /*shortest=*/false); }
  Rule Shortest(std::string_view text) const { return Find(text, /*shortest=*/true); }
  size_t rule_bytes_max() const { return rule_bytes_max_; }  // what one rule writes at most

 private:
  Rule Find(std::string_view text, bool shortest) const;

  // A double-array trie (Aoe, IEEE TSE 1989; units as in darts-clone 0.32) from texts to offsets in
  // `normal_`, whose strings end with a zero byte.
  std::vector<uint32_t> trie_;
  std::string normal_;
  size_t rule_bytes_max_ = 0;
};

}  // namespace pregate
