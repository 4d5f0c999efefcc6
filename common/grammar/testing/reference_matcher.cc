#include "common/grammar/testing/reference_matcher.h"

#include <algorithm>

namespace pregate {

using Kind = Grammar::Kind;

ReferenceMatcher::ReferenceMatcher(const Grammar& grammar)
    : grammar_(&grammar), has_text_(static_cast<size_t>(grammar.num_nodes()), false) {
  for (bool changed = true; changed;) {
    changed = false;
    for (Grammar::Expr expr = 0; expr < grammar.num_nodes(); ++expr) {
      if (has_text_[expr] || !HasText(grammar.node(expr))) continue;
      has_text_[expr] = changed = true;
    }
  }
}

bool ReferenceMatcher::HasText(const Grammar::Node& node) const {
  const auto has = [&](Grammar::Expr part) { return bool{has_text_[part]}; };
  switch (node.kind) {
    case Kind::kLiteral:
    case Kind::kRange:
      return true;
    case Kind::kSequence:
      return std::all_of(node.parts.begin(), node.parts.end(), has);
    case Kind::kChoice:
      return std::any_of(node.parts.begin(), node.parts.end(), has);
    case Kind::kRepeat:
      return node.min == 0 || has(node.parts[0]);
    case Kind::kRule:
      return has(grammar_->rules()[node.rule]);
    case Kind::kList:
      return std::any_of(node.items.begin(), node.items.end(),
                         [&](const Grammar::Item& item) { return has(item.expr); }) &&
             std::all_of(node.items.begin(), node.items.end(), [&](const Grammar::Item& item) {
               return !item.required || has(item.expr);
             });
  }
  return false;
}

ReferenceMatcher::Verdict ReferenceMatcher::Read(std::string_view text) {
  text_ = text;
  wants_more_ = false;
  done_.clear();
  const Ends ends = Match(grammar_->rules()[0], 0);
  const bool complete = ends.contains(text.size());
  return {complete, complete || wants_more_};
}

ReferenceMatcher::Ends ReferenceMatcher::Match(Grammar::Expr expr, size_t begin) {
  if (!has_text_[expr]) return {};
  const auto it = done_.find({expr, begin});
  if (it != done_.end()) return it->second;
  Ends ends = MatchInside(grammar_->node(expr), begin);
  done_[{expr, begin}] = ends;
  return ends;
}

ReferenceMatcher::Ends ReferenceMatcher::MatchAll(Grammar::Expr expr, const Ends& begins) {
  Ends ends;
  for (const size_t begin : begins) ends.merge(Match(expr, begin));
  return ends;
}

ReferenceMatcher::Ends ReferenceMatcher::MatchInside(const Grammar::Node& node, size_t begin) {
  switch (node.kind) {
    case Kind::kLiteral:
      return Literal(node.text, begin);
    case Kind::kRange: {
      if (begin == text_.size()) {
        wants_more_ = true;
        return {};
      }
      const auto byte = static_cast<uint8_t>(text_[begin]);
      return node.low <= byte && byte <= node.high ? Ends{begin + 1} : Ends{};
    }
    case Kind::kSequence: {
      Ends ends = {begin};
      for (const Grammar::Expr part : node.parts) ends = MatchAll(part, ends);
      return ends;
    }
    case Kind::kChoice: {
      Ends ends;
      for (const Grammar::Expr part : node.parts) ends.merge(Match(part, begin));
      return ends;
    }
    case Kind::kRepeat:
      return Repeat(node, begin);
    case Kind::kRule:
      return Match(grammar_->rules()[node.rule], begin);
    case Kind::kList:
      return List(node, begin);
  }
  return {};
}

ReferenceMatcher::Ends ReferenceMatcher::Literal(std::string_view literal, size_t begin) {
  const std::string_view rest = text_.substr(begin);
  if (rest.substr(0, literal.size()) == literal) return {begin + literal.size()};
  if (rest.size() < literal.size() && literal.substr(0, rest.size()) == rest) wants_more_ = true;
  return {};
}

ReferenceMatcher::Ends ReferenceMatcher::Repeat(const Grammar::Node& node, size_t begin) {
  Ends ends, now = {begin};
  for (int64_t i = 0; !now.empty(); ++i) {
    if (i >= node.min) {
      const size_t before = ends.size();
      ends.insert(now.begin(), now.end());
      // Nothing new, and never will be.
      if (ends.size() == before && node.max == Grammar::kUnbounded) break;
    }
    if (i == node.max || !has_text_[node.parts[0]]) break;
    now = MatchAll(node.parts[0], now);
  }
  return ends;
}

ReferenceMatcher::Ends ReferenceMatcher::List(const Grammar::Node& node, size_t begin) {
  Ends none = {begin}, some;
  for (const Grammar::Item& item : node.items) {
    if (!has_text_[item.expr]) continue;
    Ends begins = MatchAll(node.parts[0], some);
    begins.insert(none.begin(), none.end());
    Ends written = MatchAll(item.expr, begins);
    if (item.many) {
      for (Ends last = written; !last.empty();) {
        last = MatchAll(item.expr, MatchAll(node.parts[0], last));
        for (auto it = last.begin(); it != last.end();) {
          it = written.insert(*it).second ? std::next(it) : last.erase(it);
        }
      }
    }
    if (item.required) {
      none.clear();
      some = std::move(written);
    } else {
      some.merge(written);
    }
  }
  return some;
}

}  // namespace pregate
