// A language over bytes as rules: the one form that schemas, regular expressions and choices become
// (docs/API.md, "Structured output") and that an automaton is made from (automaton.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace pregate {

// Expressions are numbers of nodes that a Grammar owns; one may stand in several places, and is
// built anew in each. What is to be shared is a rule. Not thread-safe.
class Grammar {
 public:
  using Expr = int32_t;
  using Rule = int32_t;
  static constexpr int64_t kUnbounded = -1;

  enum class Kind : uint8_t { kLiteral, kRange, kSequence, kChoice, kRepeat, kRule, kList };
  // An entry of a list; `many`: any number of times, and then it is not required.
  struct Item {
    Expr expr;
    bool required = false;
    bool many = false;
  };
  struct Node {
    Kind kind;
    uint8_t low = 0, high = 0;  // kRange: one byte of [low, high]
    std::string text;           // kLiteral
    std::vector<Expr> parts;    // kSequence, kChoice; of kRepeat the one, of kList the separator
    int64_t min = 0, max = 0;   // kRepeat; kUnbounded
    Rule rule = 0;              // kRule
    std::vector<Item> items;    // kList
  };

  Expr Literal(std::string_view text);
  Expr Empty() { return Literal(""); }
  Expr Range(uint8_t low, uint8_t high);
  Expr Sequence(std::vector<Expr> parts);
  Expr Choice(std::vector<Expr> parts);  // of none: no text at all
  Expr Repeat(Expr part, int64_t min, int64_t max);
  Expr Optional(Expr part) { return Repeat(part, 0, 1); }
  Expr Call(Rule rule);
  // At least one of `items`, in their order, with `separator` between two.
  Expr List(std::vector<Item> items, Expr separator);

  // A rule may be called before it has its expression. The first one is what a whole text is.
  Rule NewRule();
  Rule NewRule(Expr expr);
  void SetRule(Rule rule, Expr expr) { rules_[rule] = expr; }

  const Node& node(Expr expr) const { return nodes_[expr]; }
  int num_nodes() const { return static_cast<int>(nodes_.size()); }
  int64_t repeats_max() const { return repeats_max_; }  // the largest count of a repetition
  absl::Span<const Expr> rules() const { return rules_; }

 private:
  Expr Add(Node node);

  int64_t repeats_max_ = 0;
  std::vector<Node> nodes_;
  std::vector<Expr> rules_;
};

}  // namespace pregate
