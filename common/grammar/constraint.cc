#include "common/grammar/constraint.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/grammar/json_schema.h"
#include "common/grammar/json_text.h"
#include "common/grammar/marked_json.h"
#include "common/grammar/regex_grammar.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

absl::Status CheckBytes(size_t bytes, const char* field) {
  if (bytes <= kConstraintBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": ", bytes, " bytes, at most ", kConstraintBytesMax));
}

struct Check {
  absl::Status operator()(const JsonObjectConstraint&) const { return absl::OkStatus(); }
  absl::Status operator()(const JsonSchemaConstraint& json) const {
    return CheckBytes(json.schema.size(), "json_schema");
  }
  absl::Status operator()(const RegexConstraint& regex) const {
    return CheckBytes(regex.pattern.size(), "regex");
  }
  absl::Status operator()(const ChoiceConstraint& choice) const {
    if (choice.texts.empty() || choice.texts.size() > kConstraintChoicesMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "choice: ", choice.texts.size(), " texts, expected 1 to ", kConstraintChoicesMax));
    }
    size_t bytes = 0;
    for (const std::string& text : choice.texts) {
      RETURN_IF_ERROR(CheckUtf8(text, "choice"));
      bytes += text.size();
    }
    return CheckBytes(bytes, "choice");
  }
  absl::Status operator()(const MarkedJsonConstraint& marked) const {
    RETURN_IF_ERROR(CheckMarks(marked));
    return CheckBytes(marked.schema.size(), "marked_json.json_schema");
  }
};

// Fills an empty grammar.
struct Fill {
  Grammar* grammar;

  absl::Status operator()(const JsonObjectConstraint&) const {
    const Grammar::Rule root = grammar->NewRule();
    grammar->SetRule(root, JsonText(grammar).Object());
    return absl::OkStatus();
  }
  absl::Status operator()(const JsonSchemaConstraint& json) const {
    return AddJsonSchema(json.schema, grammar).status();
  }
  absl::Status operator()(const RegexConstraint& regex) const {
    ASSIGN_OR_RETURN(const Expr expr,
                     ParseRegex(regex.pattern, RegexAnchors::kWhole, TextForm::kPlain, grammar));
    grammar->NewRule(expr);
    return absl::OkStatus();
  }
  absl::Status operator()(const ChoiceConstraint& choice) const {
    std::vector<Expr> texts;
    for (const std::string& text : choice.texts) texts.push_back(grammar->Literal(text));
    grammar->NewRule(grammar->Choice(std::move(texts)));
    return absl::OkStatus();
  }
  absl::Status operator()(const MarkedJsonConstraint& marked) const {
    return AddMarkedJson(marked, grammar);
  }
};

const char* FieldOf(const Constraint& constraint) {
  static constexpr const char* kFields[] = {"json_object", "json_schema", "regex", "choice",
                                            "marked_json"};
  return kFields[constraint.index()];
}

}  // namespace

absl::Status CheckConstraint(const Constraint& constraint) {
  return std::visit(Check{}, constraint);
}

absl::StatusOr<Grammar> GrammarOf(const Constraint& constraint) {
  RETURN_IF_ERROR(CheckConstraint(constraint));
  Grammar grammar;
  RETURN_IF_ERROR(std::visit(Fill{&grammar}, constraint));
  return grammar;
}

absl::StatusOr<std::shared_ptr<CompiledGrammar>> CompileConstraint(
    const Constraint& constraint, std::shared_ptr<const TokenTrie> trie) {
  if (trie->end_tokens().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(FieldOf(constraint), ": the model's tokenizer has no token that ends a text"));
  }
  ASSIGN_OR_RETURN(const Grammar grammar, GrammarOf(constraint));
  absl::StatusOr<Automaton> automaton = Automaton::Build(grammar, trie->alphabet());
  if (!automaton.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(FieldOf(constraint), ": ", automaton.status().message()));
  }
  auto compiled = std::make_shared<CompiledGrammar>(*std::move(automaton), std::move(trie));
  compiled->masks.Warm(kGrammarWarmNodesMax);
  return compiled;
}

}  // namespace pregate
