// The texts of JSON values as expressions of a grammar. What white space there may be is fixed: see
// docs/API.md, "Structured output".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/grammar/code_points.h"
#include "common/grammar/grammar.h"

namespace pregate {

// How characters of a text are written.
enum class TextForm : uint8_t {
  kPlain,       // UTF-8
  kJsonString,  // between the quotes of a JSON string: escaped where that is needed, else UTF-8
};

// One character of `set`.
Grammar::Expr CharacterOf(const CodePointSet& set, TextForm form, Grammar* grammar);

// Makes each rule when it is first asked for. Borrows the grammar, whose rules must outlast it.
class JsonText {
 public:
  using Expr = Grammar::Expr;

  explicit JsonText(Grammar* grammar) : grammar_(grammar) {}

  Expr Value();   // any
  Expr Object();  // any
  Expr Array();   // any
  Expr String();  // any; with every escape that JSON has, surrogates in pairs alone
  Expr String(int64_t min, int64_t max);  // of so many characters
  Expr Quoted(Expr content);
  Expr AnyCharacter();  // of a string, escapes included
  Expr Number();        // at most 15 digits before the point and behind it, exponents of 2
  Expr Integer();       // at most 18 digits
  Expr Boolean();
  Expr Null() { return grammar_->Literal("null"); }
  // A member's name as it stands and the colon.
  Expr Key(const std::string& name);
  // The same of any name without escapes that is none of `names`.
  Expr OtherKey(const std::vector<std::string>& names);
  Expr Bracketed(const char* open, Expr inside, const char* close, bool may_be_empty);
  Expr Empty(const char* open, const char* close);
  Expr Comma();

 private:
  Expr Rule(std::optional<Grammar::Rule>* rule, Expr (JsonText::*make)());
  Expr MakeSpace();
  Expr MakeValue();
  Expr MakeObject();
  Expr MakeArray();
  Expr MakeString() { return Quoted(grammar_->Repeat(AnyCharacter(), 0, Grammar::kUnbounded)); }
  Expr MakeCharacter();
  Expr MakeNumber();
  Expr MakeInteger();
  Expr MakePlainTail();
  Expr Space() { return Rule(&space_, &JsonText::MakeSpace); }
  Expr Colon();
  Expr Escape();

  Grammar* grammar_;
  std::optional<Grammar::Rule> space_, value_, object_, array_, string_, character_, number_,
      integer_, plain_tail_;
};

}  // namespace pregate
