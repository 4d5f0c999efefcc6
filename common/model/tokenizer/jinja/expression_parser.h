// Expressions, and the words that statements are made of.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/jinja/ast.h"
#include "common/model/tokenizer/jinja/lexer.h"

namespace pregate::jinja {

// Moves through the tokens of one template. Not thread-safe.
class ExpressionParser {
 public:
  // REQUIRES: the last token is kEnd.
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  Token::Kind kind() const { return current().kind; }
  void Next();
  bool IsWord(std::string_view name) const;
  bool IsSign(std::string_view sign) const;
  bool TakeWord(std::string_view name);
  bool TakeSign(std::string_view sign);
  absl::Status ExpectWord(std::string_view name);
  absl::Status ExpectSign(std::string_view sign);
  absl::Status ExpectKind(Token::Kind kind, std::string_view shown);
  absl::StatusOr<std::string> TakeName();

  // At the current line.
  absl::Status Bad(std::string_view what) const;
  absl::Status Unsupported(std::string_view what) const;
  absl::Status Unexpected() const;

  absl::StatusOr<ExprPtr> ReadExpression(bool with_condition = true);
  // An expression, or several with commas between.
  absl::StatusOr<ExprPtr> ReadTuple(bool with_condition = true);
  // All filters that follow, and one of which only the name follows.
  absl::StatusOr<ExprPtr> ReadFilters(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadFilter(ExprPtr target);
  ExprPtr Piped(int line) const;

  // What `end` follows: a variable, a namespace's attribute or a tuple of such.
  absl::StatusOr<Target> ReadTarget(std::string_view end, bool with_attribute);
  absl::StatusOr<Target> ReadSingleTarget(bool with_attribute);
  // The template gives this name a value somewhere.
  void Assign(const std::string& name) { assigned_.insert(name); }
  // What is not supported is refused when the template is read, but in a branch, of a statement or
  // an expression: there it is refused where it is reached, as in jinja2. A branch is what was read
  // between the two calls.
  size_t BeginBranch() const { return unknown_.size(); }
  void EndBranch(size_t begin) { unknown_.erase(unknown_.begin() + begin, unknown_.end()); }
  // Unimplemented: the first filter, test, function or method that is not supported.
  absl::Status CheckUnknown() const;
  bool reads_parts() const { return reads_parts_; }

 private:
  friend class Nested;

  absl::StatusOr<ExprPtr> Make(Expr expr) const;  // with its depth
  absl::StatusOr<ExprPtr> ReadCondition();
  absl::StatusOr<ExprPtr> ReadOr();
  absl::StatusOr<ExprPtr> ReadAnd();
  absl::StatusOr<ExprPtr> ReadNot();
  absl::StatusOr<ExprPtr> ReadCompare();
  absl::StatusOr<ExprPtr> ReadSum();
  absl::StatusOr<ExprPtr> ReadConcat();
  absl::StatusOr<ExprPtr> ReadProduct();
  absl::StatusOr<ExprPtr> ReadPower();
  absl::StatusOr<ExprPtr> ReadUnary(bool with_filters);
  absl::StatusOr<ExprPtr> ReadPrimary();
  absl::StatusOr<ExprPtr> ReadNameOrConstant();
  absl::StatusOr<ExprPtr> ReadNumber();
  absl::StatusOr<ExprPtr> ReadStrings();
  absl::StatusOr<ExprPtr> ReadParentheses();
  absl::StatusOr<ExprPtr> ReadTupleItems(bool with_condition, bool may_be_empty);
  absl::StatusOr<ExprPtr> ReadList();
  absl::StatusOr<ExprPtr> ReadDict();
  absl::StatusOr<ExprPtr> ReadPostfix(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadFiltersAndTests(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadAttribute(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadSubscript(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadCall(ExprPtr target);
  absl::StatusOr<ExprPtr> ReadTest(ExprPtr target);
  absl::Status ReadArguments(Expr* call);
  absl::StatusOr<std::string> ReadComparison();  // empty: none
  bool EndsTuple() const;
  void CheckNamesOf(const Expr& filter);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  bool reads_parts_ = false;
  std::set<std::string> assigned_;
  struct Unknown {
    const char* what;
    std::string name;
    int line;
  };
  std::vector<Unknown> unknown_;  // functions among them that may be assigned further on
};

// One level deeper, while it lives.
class Nested {
 public:
  explicit Nested(ExpressionParser* parser) : parser_(parser) { ++parser_->depth_; }
  Nested(const Nested&) = delete;
  ~Nested() { --parser_->depth_; }
  absl::Status status() const;  // ResourceExhausted: too deep

 private:
  ExpressionParser* const parser_;
};

}  // namespace pregate::jinja
