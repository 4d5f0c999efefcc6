// Sets of Unicode characters, and their UTF-8 as ranges of bytes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar/grammar.h"

namespace pregate {

// Characters alone: surrogates are never in it.
class CodePointSet {
 public:
  using Interval = std::pair<uint32_t, uint32_t>;  // both are in

  CodePointSet() = default;
  static CodePointSet All();
  static CodePointSet Of(uint32_t low, uint32_t high);

  void Add(uint32_t low, uint32_t high);
  void Add(const CodePointSet& other);
  CodePointSet Minus(const CodePointSet& other) const;
  CodePointSet Complement() const { return All().Minus(*this); }
  bool Contains(uint32_t code_point) const;
  bool empty() const { return intervals_.empty(); }
  const std::vector<Interval>& intervals() const { return intervals_; }  // ascending, apart

 private:
  std::vector<Interval> intervals_;
};

// One character of `set` in UTF-8.
Grammar::Expr Utf8Of(const CodePointSet& set, Grammar* grammar);

std::string EncodeUtf8(uint32_t code_point);
// REQUIRES: `text` is UTF-8.
std::vector<uint32_t> DecodeUtf8(std::string_view text);

}  // namespace pregate
