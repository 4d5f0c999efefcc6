// Reads a text by a grammar's expressions themselves: the plain reference of automaton, stacks and
// masks. Exponential in nothing, but slow.
#pragma once

#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/grammar/grammar.h"

namespace pregate {

// REQUIRES: no rule begins with itself.
class ReferenceMatcher {
 public:
  explicit ReferenceMatcher(const Grammar& grammar);

  struct Verdict {
    bool complete = false;  // it is a text of the grammar
    bool begins = false;    // it is complete or a text begins with it
  };
  Verdict Read(std::string_view text);

 private:
  using Ends = std::set<size_t>;
  bool HasText(const Grammar::Node& node) const;
  // Where the expression may end that begins at `begin`.
  Ends Match(Grammar::Expr expr, size_t begin);
  Ends MatchInside(const Grammar::Node& node, size_t begin);
  Ends MatchAll(Grammar::Expr expr, const Ends& begins);
  Ends Literal(std::string_view literal, size_t begin);
  Ends Repeat(const Grammar::Node& node, size_t begin);
  Ends List(const Grammar::Node& node, size_t begin);

  const Grammar* grammar_;
  std::vector<bool> has_text_;  // by expression: some text belongs to it
  std::string_view text_;
  bool wants_more_ = false;  // something would have gone on behind the text
  std::map<std::pair<Grammar::Expr, size_t>, Ends> done_;
};

}  // namespace pregate
