// What the text of an answer must be: JSON, a regular expression's, one of a list, or free but for JSON
// between marks.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "common/grammar/grammar.h"
#include "common/grammar/matcher.h"
#include "common/grammar/token_trie.h"

namespace pregate {

struct JsonObjectConstraint {  // any JSON object
  bool operator==(const JsonObjectConstraint&) const = default;
};
struct JsonSchemaConstraint {
  std::string schema;  // as JSON
  bool operator==(const JsonSchemaConstraint&) const = default;
};
struct RegexConstraint {
  std::string pattern;  // of the whole text
  bool operator==(const RegexConstraint&) const = default;
};
struct ChoiceConstraint {
  std::vector<std::string> texts;
  bool operator==(const ChoiceConstraint&) const = default;
};
struct MarkedJsonConstraint {  // marked_json.h
  std::string begin, end;
  std::string schema;  // of what stands between them
  bool once = false;   // `begin` comes once at most
  bool operator==(const MarkedJsonConstraint&) const = default;
};
using Constraint = std::variant<JsonObjectConstraint, JsonSchemaConstraint, RegexConstraint,
                                ChoiceConstraint, MarkedJsonConstraint>;

// Sizes that are known without compiling; INVALID_ARGUMENT names field and value.
absl::Status CheckConstraint(const Constraint& constraint);

// INVALID_ARGUMENT names what is wrong or not supported, of a schema the JSON pointer.
absl::StatusOr<Grammar> GrammarOf(const Constraint& constraint);

// Takes milliseconds for what is usual, and a bounded number of steps for anything.
absl::StatusOr<std::shared_ptr<CompiledGrammar>> CompileConstraint(
    const Constraint& constraint, std::shared_ptr<const TokenTrie> trie);

}  // namespace pregate
