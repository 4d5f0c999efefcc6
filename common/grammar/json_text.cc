#include "common/grammar/json_text.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_format.h"
#include "common/base/grammar_limits.h"
#include "nlohmann/json.hpp"

namespace pregate {

using Expr = Grammar::Expr;

namespace {

// Characters that stand in a JSON string as they are.
const CodePointSet& PlainCharacters() {
  static const CodePointSet* const set = [] {
    auto* plain = new CodePointSet;
    plain->Add(0x20, 0x21);
    plain->Add(0x23, 0x5B);
    plain->Add(0x5D, 0x10FFFF);
    return plain;
  }();
  return *set;
}

std::string EscapeOf(uint32_t code_point) {
  switch (code_point) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return absl::StrFormat("\\u%04x", code_point);
  }
}

}  // namespace

Expr CharacterOf(const CodePointSet& set, TextForm form, Grammar* grammar) {
  if (form == TextForm::kPlain) return Utf8Of(set, grammar);
  std::vector<Expr> choices;
  const CodePointSet escaped = set.Minus(PlainCharacters());
  const CodePointSet plain = set.Minus(escaped);
  if (!plain.empty()) choices.push_back(Utf8Of(plain, grammar));
  for (const auto& [low, high] : escaped.intervals()) {
    for (uint32_t c = low; c <= high; ++c) choices.push_back(grammar->Literal(EscapeOf(c)));
  }
  return grammar->Choice(std::move(choices));
}

Expr JsonText::Rule(std::optional<Grammar::Rule>* rule, Expr (JsonText::*make)()) {
  if (!rule->has_value()) {
    *rule = grammar_->NewRule();  // before it is made, since it may call itself
    grammar_->SetRule(**rule, (this->*make)());
  }
  return grammar_->Call(**rule);
}

// Nothing, one space, or a new line with some indentation.
Expr JsonText::MakeSpace() {
  const Expr indent = grammar_->Repeat(grammar_->Literal(" "), 0, kJsonIndentMax);
  return grammar_->Choice({grammar_->Empty(), grammar_->Literal(" "),
                           grammar_->Sequence({grammar_->Literal("\n"), indent})});
}

Expr JsonText::Colon() {
  return grammar_->Sequence({grammar_->Literal(":"), grammar_->Optional(grammar_->Literal(" "))});
}

Expr JsonText::Comma() { return grammar_->Sequence({grammar_->Literal(","), Space()}); }

Expr JsonText::Empty(const char* open, const char* close) {
  return grammar_->Sequence({grammar_->Literal(open), Space(), grammar_->Literal(close)});
}

Expr JsonText::Bracketed(const char* open, Expr inside, const char* close, bool may_be_empty) {
  const Expr filled = grammar_->Sequence({inside, Space()});
  return grammar_->Sequence({grammar_->Literal(open), Space(),
                             may_be_empty ? grammar_->Optional(filled) : filled,
                             grammar_->Literal(close)});
}

Expr JsonText::Value() { return Rule(&value_, &JsonText::MakeValue); }
Expr JsonText::Object() { return Rule(&object_, &JsonText::MakeObject); }
Expr JsonText::Array() { return Rule(&array_, &JsonText::MakeArray); }
Expr JsonText::String() { return Rule(&string_, &JsonText::MakeString); }
Expr JsonText::AnyCharacter() { return Rule(&character_, &JsonText::MakeCharacter); }
Expr JsonText::Number() { return Rule(&number_, &JsonText::MakeNumber); }
Expr JsonText::Integer() { return Rule(&integer_, &JsonText::MakeInteger); }

Expr JsonText::MakeValue() {
  return grammar_->Choice({Object(), Array(), String(), Number(), Boolean(), Null()});
}

Expr JsonText::MakeObject() {
  const Expr member = grammar_->Sequence({String(), Colon(), Value()});
  return Bracketed("{", grammar_->List({{.expr = member, .many = true}}, Comma()), "}", true);
}

Expr JsonText::MakeArray() {
  return Bracketed("[", grammar_->List({{.expr = Value(), .many = true}}, Comma()), "]", true);
}

Expr JsonText::Boolean() {
  return grammar_->Choice({grammar_->Literal("true"), grammar_->Literal("false")});
}

Expr JsonText::Quoted(Expr content) {
  return grammar_->Sequence({grammar_->Literal("\""), content, grammar_->Literal("\"")});
}

Expr JsonText::String(int64_t min, int64_t max) {
  return Quoted(grammar_->Repeat(AnyCharacter(), min, max));
}

Expr JsonText::Escape() {
  Grammar* g = grammar_;
  const auto hex = [&] {
    return g->Choice({g->Range('0', '9'), g->Range('a', 'f'), g->Range('A', 'F')});
  };
  const auto letter = [&](char lower) {
    return g->Choice({g->Literal(std::string(1, lower)),
                      g->Literal(std::string(1, static_cast<char>(lower - 32)))});
  };
  const Expr not_d = g->Choice({g->Range('0', '9'), g->Range('a', 'c'), g->Range('A', 'C'),
                                g->Range('e', 'f'), g->Range('E', 'F')});
  const Expr high_two = g->Choice({g->Range('8', '9'), letter('a'), letter('b')});
  const Expr low_two = g->Choice({letter('c'), letter('d'), letter('e'), letter('f')});
  return g->Sequence(
      {g->Literal("\\"),
       g->Choice({g->Literal("\""), g->Literal("\\"), g->Literal("/"), g->Literal("b"),
                  g->Literal("f"), g->Literal("n"), g->Literal("r"), g->Literal("t"),
                  g->Sequence({g->Literal("u"), not_d, hex(), hex(), hex()}),
                  g->Sequence({g->Literal("u"), letter('d'), g->Range('0', '7'), hex(), hex()}),
                  g->Sequence({g->Literal("u"), letter('d'), high_two, hex(), hex(),
                               g->Literal("\\u"), letter('d'), low_two, hex(), hex()})})});
}

Expr JsonText::MakeCharacter() {
  return grammar_->Choice({Utf8Of(PlainCharacters(), grammar_), Escape()});
}

Expr JsonText::MakeInteger() {
  const Expr digits = grammar_->Sequence(
      {grammar_->Range('1', '9'), grammar_->Repeat(grammar_->Range('0', '9'), 0, 17)});
  return grammar_->Choice(
      {grammar_->Literal("0"),
       grammar_->Sequence({grammar_->Optional(grammar_->Literal("-")), digits})});
}

Expr JsonText::MakeNumber() {
  Grammar* g = grammar_;
  const Expr whole = g->Choice(
      {g->Literal("0"), g->Sequence({g->Range('1', '9'), g->Repeat(g->Range('0', '9'), 0, 14)})});
  const Expr fraction = g->Sequence({g->Literal("."), g->Repeat(g->Range('0', '9'), 1, 15)});
  const Expr exponent = g->Sequence({g->Choice({g->Literal("e"), g->Literal("E")}),
                                     g->Optional(g->Choice({g->Literal("+"), g->Literal("-")})),
                                     g->Repeat(g->Range('0', '9'), 1, 2)});
  return g->Sequence(
      {g->Optional(g->Literal("-")), whole, g->Optional(fraction), g->Optional(exponent)});
}

Expr JsonText::Key(const std::string& name) {
  return grammar_->Sequence({grammar_->Literal(nlohmann::json(name).dump()), Colon()});
}

Expr JsonText::MakePlainTail() {
  return grammar_->Repeat(Utf8Of(PlainCharacters(), grammar_), 0, Grammar::kUnbounded);
}

namespace {

// Names by their characters.
struct NameTree {
  std::map<uint32_t, NameTree> next;
  bool ends = false;
};

}  // namespace

Expr JsonText::OtherKey(const std::vector<std::string>& names) {
  // A name that needs escapes is never written here.
  const auto tail = [&] { return Rule(&plain_tail_, &JsonText::MakePlainTail); };
  NameTree root;
  for (const std::string& name : names) {
    NameTree* at = &root;
    for (const uint32_t c : DecodeUtf8(name)) at = &at->next[c];
    at->ends = true;
  }
  const auto other_than = [&](const auto& self, const NameTree& tree) -> Expr {
    std::vector<Expr> choices;
    CodePointSet rest = PlainCharacters();
    for (const auto& [c, next] : tree.next) {
      rest = rest.Minus(CodePointSet::Of(c, c));
      if (!PlainCharacters().Contains(c)) continue;
      choices.push_back(grammar_->Sequence({grammar_->Literal(EncodeUtf8(c)), self(self, next)}));
    }
    choices.push_back(grammar_->Sequence({Utf8Of(rest, grammar_), tail()}));
    if (!tree.ends) choices.push_back(grammar_->Empty());
    return grammar_->Choice(std::move(choices));
  };
  return grammar_->Sequence({Quoted(other_than(other_than, root)), Colon()});
}

}  // namespace pregate
