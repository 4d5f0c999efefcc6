#include "common/grammar/grammar.h"

#include <algorithm>
#include <utility>

namespace pregate {

Grammar::Expr Grammar::Add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<Expr>(nodes_.size()) - 1;
}

Grammar::Expr Grammar::Literal(std::string_view text) {
  return Add({.kind = Kind::kLiteral, .text = std::string(text)});
}

Grammar::Expr Grammar::Range(uint8_t low, uint8_t high) {
  return Add({.kind = Kind::kRange, .low = low, .high = high});
}

Grammar::Expr Grammar::Sequence(std::vector<Expr> parts) {
  return Add({.kind = Kind::kSequence, .parts = std::move(parts)});
}

Grammar::Expr Grammar::Choice(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  return Add({.kind = Kind::kChoice, .parts = std::move(parts)});
}

Grammar::Expr Grammar::Repeat(Expr part, int64_t min, int64_t max) {
  repeats_max_ = std::max({repeats_max_, min, max});
  return Add({.kind = Kind::kRepeat, .parts = {part}, .min = min, .max = max});
}

Grammar::Expr Grammar::Call(Rule rule) { return Add({.kind = Kind::kRule, .rule = rule}); }

Grammar::Expr Grammar::List(std::vector<Item> items, Expr separator) {
  return Add({.kind = Kind::kList, .parts = {separator}, .items = std::move(items)});
}

Grammar::Rule Grammar::NewRule() {
  rules_.push_back(Empty());
  return static_cast<Rule>(rules_.size()) - 1;
}

Grammar::Rule Grammar::NewRule(Expr expr) {
  const Rule rule = NewRule();
  SetRule(rule, expr);
  return rule;
}

}  // namespace pregate
