#include "common/model/tokenizer/jinja/expression_parser.h"

#include <algorithm>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/methods.h"

namespace pregate::jinja {
namespace {

using ExprKind = Expr::Kind;
using TokenKind = Token::Kind;

absl::Status TooDeep(int line) {
  return absl::ResourceExhaustedError(
      AtLine(line, absl::StrCat("nested deeper than ", kTemplateDepthMax)));
}

absl::Status NotSupportedAt(int line, std::string_view what, std::string_view name) {
  const absl::Status status = NotSupported(what, name);
  return absl::UnimplementedError(AtLine(line, std::string(status.message())));
}

template <typename... Operands>
Expr MakeExpr(ExprKind kind, int line, std::string name, Operands... operands) {
  Expr expr{.kind = kind, .line = line, .name = std::move(name)};
  (expr.operands.push_back(std::move(operands)), ...);
  return expr;
}

Expr Constant(int line, Value value) {
  return Expr{.kind = ExprKind::kConstant, .line = line, .constant = std::move(value)};
}

}  // namespace

absl::Status Nested::status() const {
  if (parser_->depth_ <= kTemplateDepthMax) return absl::OkStatus();
  return TooDeep(parser_->current().line);
}

void ExpressionParser::Next() {
  if (at_ + 1 < tokens_.size()) ++at_;
}

bool ExpressionParser::IsWord(std::string_view name) const {
  return kind() == TokenKind::kName && current().text == name;
}
bool ExpressionParser::IsSign(std::string_view sign) const {
  return kind() == TokenKind::kOperator && current().text == sign;
}
bool ExpressionParser::TakeWord(std::string_view name) {
  const bool is_it = IsWord(name);
  if (is_it) Next();
  return is_it;
}
bool ExpressionParser::TakeSign(std::string_view sign) {
  const bool is_it = IsSign(sign);
  if (is_it) Next();
  return is_it;
}

absl::Status ExpressionParser::Bad(std::string_view what) const {
  return absl::InvalidArgumentError(AtLine(current().line, what));
}
absl::Status ExpressionParser::Unsupported(std::string_view what) const {
  return absl::UnimplementedError(
      AtLine(current().line, absl::StrCat(std::string(what), " is not supported")));
}
absl::Status ExpressionParser::Unexpected() const {
  switch (kind()) {
    case TokenKind::kEnd:
      return Bad("the template ends too early");
    case TokenKind::kBlockEnd:
    case TokenKind::kVariableEnd:
      return Bad("a tag ends too early");
    default:
      return Bad(
          absl::StrCat("unexpected \"", absl::CHexEscape(current().text.substr(0, 64)), "\""));
  }
}

absl::Status ExpressionParser::ExpectWord(std::string_view name) {
  return TakeWord(name) ? absl::OkStatus() : Unexpected();
}
absl::Status ExpressionParser::ExpectSign(std::string_view sign) {
  return TakeSign(sign) ? absl::OkStatus() : Unexpected();
}
absl::Status ExpressionParser::ExpectKind(TokenKind expected, std::string_view shown) {
  if (kind() != expected) {
    return Bad(absl::StrCat("expected \"", std::string(shown), "\", got \"",
                            absl::CHexEscape(current().text.substr(0, 64)), "\""));
  }
  Next();
  return absl::OkStatus();
}
absl::StatusOr<std::string> ExpressionParser::TakeName() {
  if (kind() != TokenKind::kName) return Unexpected();
  std::string name = current().text;
  Next();
  return name;
}

absl::StatusOr<ExprPtr> ExpressionParser::Make(Expr expr) const {
  int depth = 0;
  for (const ExprPtr& operand : expr.operands) {
    if (operand != nullptr) depth = std::max(depth, operand->depth);
  }
  for (const auto& [name, value] : expr.named) depth = std::max(depth, value->depth);
  expr.depth = depth + 1;
  if (expr.depth > kTemplateDepthMax) return TooDeep(expr.line);
  return std::make_unique<Expr>(std::move(expr));
}

ExprPtr ExpressionParser::Piped(int line) const {
  return std::make_unique<Expr>(Expr{.kind = ExprKind::kPiped, .line = line});
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadExpression(bool with_condition) {
  const Nested nested(this);
  RETURN_IF_ERROR(nested.status());
  return with_condition ? ReadCondition() : ReadOr();
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadCondition() {
  const Nested nested(this);
  RETURN_IF_ERROR(nested.status());
  const size_t begin = BeginBranch();
  ASSIGN_OR_RETURN(ExprPtr value, ReadOr());
  while (IsWord("if")) {
    const int line = current().line;
    Next();
    ASSIGN_OR_RETURN(ExprPtr condition, ReadOr());
    ExprPtr otherwise;
    if (TakeWord("else")) {
      ASSIGN_OR_RETURN(otherwise, ReadCondition());
    }
    ASSIGN_OR_RETURN(value, Make(MakeExpr(ExprKind::kConditional, line, "", std::move(condition),
                                          std::move(value), std::move(otherwise))));
    EndBranch(begin);
  }
  return value;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadOr() {
  ASSIGN_OR_RETURN(ExprPtr left, ReadAnd());
  while (IsWord("or")) {
    const int line = current().line;
    Next();
    ASSIGN_OR_RETURN(ExprPtr right, ReadAnd());
    ASSIGN_OR_RETURN(left,
                     Make(MakeExpr(ExprKind::kOr, line, "", std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadAnd() {
  ASSIGN_OR_RETURN(ExprPtr left, ReadNot());
  while (IsWord("and")) {
    const int line = current().line;
    Next();
    ASSIGN_OR_RETURN(ExprPtr right, ReadNot());
    ASSIGN_OR_RETURN(left,
                     Make(MakeExpr(ExprKind::kAnd, line, "", std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadNot() {
  if (!IsWord("not")) return ReadCompare();
  const Nested nested(this);
  RETURN_IF_ERROR(nested.status());
  const int line = current().line;
  Next();
  ASSIGN_OR_RETURN(ExprPtr operand, ReadNot());
  return Make(MakeExpr(ExprKind::kNot, line, "", std::move(operand)));
}

absl::StatusOr<std::string> ExpressionParser::ReadComparison() {
  for (const char* sign : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (TakeSign(sign)) return sign;
  }
  if (TakeWord("in")) return "in";
  if (!IsWord("not")) return "";
  const Token& next = tokens_[std::min(at_ + 1, tokens_.size() - 1)];
  if (next.kind != TokenKind::kName || next.text != "in") return "";
  Next();
  Next();
  return "not in";
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadCompare() {
  const int line = current().line;
  ASSIGN_OR_RETURN(ExprPtr first, ReadSum());
  Expr compare = MakeExpr(ExprKind::kCompare, line, "", std::move(first));
  while (true) {
    ASSIGN_OR_RETURN(std::string sign, ReadComparison());
    if (sign.empty()) break;
    compare.signs.push_back(std::move(sign));
    ASSIGN_OR_RETURN(ExprPtr operand, ReadSum());
    compare.operands.push_back(std::move(operand));
  }
  if (compare.signs.empty()) return std::move(compare.operands[0]);
  return Make(std::move(compare));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadSum() {
  ASSIGN_OR_RETURN(ExprPtr left, ReadConcat());
  while (IsSign("+") || IsSign("-")) {
    const Token sign = current();
    Next();
    ASSIGN_OR_RETURN(ExprPtr right, ReadConcat());
    ASSIGN_OR_RETURN(left, Make(MakeExpr(ExprKind::kArithmetic, sign.line, sign.text,
                                         std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadConcat() {
  const int line = current().line;
  ASSIGN_OR_RETURN(ExprPtr first, ReadProduct());
  if (!IsSign("~")) return first;
  Expr concat = MakeExpr(ExprKind::kConcat, line, "", std::move(first));
  while (TakeSign("~")) {
    ASSIGN_OR_RETURN(ExprPtr operand, ReadProduct());
    concat.operands.push_back(std::move(operand));
  }
  return Make(std::move(concat));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadProduct() {
  ASSIGN_OR_RETURN(ExprPtr left, ReadPower());
  while (IsSign("*") || IsSign("/") || IsSign("//") || IsSign("%")) {
    const Token sign = current();
    Next();
    ASSIGN_OR_RETURN(ExprPtr right, ReadPower());
    ASSIGN_OR_RETURN(left, Make(MakeExpr(ExprKind::kArithmetic, sign.line, sign.text,
                                         std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadPower() {
  ASSIGN_OR_RETURN(ExprPtr left, ReadUnary(/*with_filters=*/true));
  while (IsSign("**")) {
    const int line = current().line;
    Next();
    ASSIGN_OR_RETURN(ExprPtr right, ReadUnary(/*with_filters=*/true));
    ASSIGN_OR_RETURN(
        left, Make(MakeExpr(ExprKind::kArithmetic, line, "**", std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadUnary(bool with_filters) {
  const Nested nested(this);
  RETURN_IF_ERROR(nested.status());
  ExprPtr value;
  if (IsSign("-") || IsSign("+")) {
    const Token sign = current();
    Next();
    ASSIGN_OR_RETURN(value, ReadUnary(/*with_filters=*/false));
    ASSIGN_OR_RETURN(value,
                     Make(MakeExpr(ExprKind::kSign, sign.line, sign.text, std::move(value))));
  } else {
    ASSIGN_OR_RETURN(value, ReadPrimary());
  }
  ASSIGN_OR_RETURN(value, ReadPostfix(std::move(value)));
  if (!with_filters) return value;
  return ReadFiltersAndTests(std::move(value));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadPrimary() {
  switch (kind()) {
    case TokenKind::kName:
      return ReadNameOrConstant();
    case TokenKind::kString:
      return ReadStrings();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ReadNumber();
    default:
      if (IsSign("(")) return ReadParentheses();
      if (IsSign("[")) return ReadList();
      if (IsSign("{")) return ReadDict();
      return Unexpected();
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadNameOrConstant() {
  const Token token = current();
  Next();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return Make(Constant(token.line, Value(true)));
  if (name == "false" || name == "False") return Make(Constant(token.line, Value(false)));
  if (name == "none" || name == "None") return Make(Constant(token.line, Value()));
  if (name == "caller" || name == "varargs" || name == "kwargs" || name == "self" ||
      name == "super") {
    return NotSupportedAt(token.line, "variable", name);
  }
  return Make(MakeExpr(ExprKind::kName, token.line, name));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadNumber() {
  const Token token = current();
  Next();
  if (token.kind == TokenKind::kInteger) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(token.text, &number)) {
      return absl::InvalidArgumentError(AtLine(token.line, "an integer is out of range"));
    }
    return Make(Constant(token.line, Value(number)));
  }
  double number = 0;
  if (!absl::SimpleAtod(token.text, &number)) {
    return absl::InvalidArgumentError(AtLine(token.line, "a number is malformed"));
  }
  return Make(Constant(token.line, Value(number)));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadStrings() {
  const int line = current().line;
  std::string text;
  while (kind() == TokenKind::kString) {
    text += current().text;
    Next();
  }
  return Make(Constant(line, ConstantString(std::move(text))));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadParentheses() {
  Next();
  ASSIGN_OR_RETURN(ExprPtr value, ReadTupleItems(/*with_condition=*/true, /*may_be_empty=*/true));
  RETURN_IF_ERROR(ExpectSign(")"));
  return value;
}

bool ExpressionParser::EndsTuple() const {
  return kind() == TokenKind::kVariableEnd || kind() == TokenKind::kBlockEnd || IsSign(")");
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadTuple(bool with_condition) {
  return ReadTupleItems(with_condition, /*may_be_empty=*/false);
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadTupleItems(bool with_condition, bool may_be_empty) {
  Expr tuple{.kind = ExprKind::kTuple, .line = current().line};
  bool is_tuple = false;
  while (!EndsTuple()) {
    ASSIGN_OR_RETURN(ExprPtr item, ReadExpression(with_condition));
    tuple.operands.push_back(std::move(item));
    if (!TakeSign(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && tuple.operands.size() == 1) return std::move(tuple.operands[0]);
  if (tuple.operands.empty() && !may_be_empty) return Unexpected();
  return Make(std::move(tuple));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadList() {
  Expr list{.kind = ExprKind::kList, .line = current().line};
  Next();
  while (!IsSign("]")) {
    if (!list.operands.empty()) RETURN_IF_ERROR(ExpectSign(","));
    if (IsSign("]")) break;
    ASSIGN_OR_RETURN(ExprPtr item, ReadExpression());
    list.operands.push_back(std::move(item));
  }
  Next();
  return Make(std::move(list));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadDict() {
  Expr dict{.kind = ExprKind::kDict, .line = current().line};
  Next();
  while (!IsSign("}")) {
    if (!dict.operands.empty()) RETURN_IF_ERROR(ExpectSign(","));
    if (IsSign("}")) break;
    ASSIGN_OR_RETURN(ExprPtr key, ReadExpression());
    RETURN_IF_ERROR(ExpectSign(":"));
    ASSIGN_OR_RETURN(ExprPtr value, ReadExpression());
    dict.operands.push_back(std::move(key));
    dict.operands.push_back(std::move(value));
  }
  Next();
  return Make(std::move(dict));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadPostfix(ExprPtr target) {
  while (true) {
    if (IsSign(".")) {
      ASSIGN_OR_RETURN(target, ReadAttribute(std::move(target)));
    } else if (IsSign("[")) {
      ASSIGN_OR_RETURN(target, ReadSubscript(std::move(target)));
    } else if (IsSign("(")) {
      ASSIGN_OR_RETURN(target, ReadCall(std::move(target)));
    } else {
      return target;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadFiltersAndTests(ExprPtr target) {
  while (true) {
    if (IsSign("|")) {
      ASSIGN_OR_RETURN(target, ReadFilters(std::move(target)));
    } else if (IsWord("is")) {
      ASSIGN_OR_RETURN(target, ReadTest(std::move(target)));
    } else if (IsSign("(")) {
      ASSIGN_OR_RETURN(target, ReadCall(std::move(target)));
    } else {
      return target;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadAttribute(ExprPtr target) {
  const int line = current().line;
  Next();
  if (kind() == TokenKind::kInteger) {
    ASSIGN_OR_RETURN(ExprPtr index, ReadNumber());
    return Make(MakeExpr(ExprKind::kItem, line, "", std::move(target), std::move(index)));
  }
  ASSIGN_OR_RETURN(std::string name, TakeName());
  reads_parts_ |= name == "text";
  return Make(MakeExpr(ExprKind::kAttribute, line, std::move(name), std::move(target)));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadSubscript(ExprPtr target) {
  const int line = current().line;
  Next();
  ExprPtr bounds[3];
  size_t count = 0;  // of bounds, colons having been passed
  bool is_slice = false;
  while (!IsSign("]")) {
    if (TakeSign(":")) {
      is_slice = true;
      if (++count > 2) return Unexpected();
      continue;
    }
    if (bounds[count] != nullptr)
      return IsSign(",") ? Unsupported("a subscript of several") : Unexpected();
    ASSIGN_OR_RETURN(bounds[count], ReadExpression());
  }
  if (!is_slice && bounds[0] == nullptr) return Unexpected();
  Next();
  if (is_slice) {
    return Make(MakeExpr(ExprKind::kSlice, line, "", std::move(target), std::move(bounds[0]),
                         std::move(bounds[1]), std::move(bounds[2])));
  }
  const Expr& key = *bounds[0];
  reads_parts_ |= key.kind == ExprKind::kConstant && key.constant.IsString() &&
                  key.constant.AsBytes() == "text";
  return Make(MakeExpr(ExprKind::kItem, line, "", std::move(target), std::move(bounds[0])));
}

absl::Status ExpressionParser::ReadArguments(Expr* call) {
  Next();
  bool is_first = true;
  while (!IsSign(")")) {
    if (!is_first) RETURN_IF_ERROR(ExpectSign(","));
    is_first = false;
    if (IsSign(")")) break;
    if (IsSign("*") || IsSign("**")) return Unsupported("an argument with * or **");
    const Token& next = tokens_[std::min(at_ + 1, tokens_.size() - 1)];
    const bool is_named =
        kind() == TokenKind::kName && next.kind == TokenKind::kOperator && next.text == "=";
    if (is_named) {
      std::string name = current().text;
      Next();
      Next();
      ASSIGN_OR_RETURN(ExprPtr value, ReadExpression());
      for (const auto& [known, unused] : call->named) {
        if (known == name) return Bad(absl::StrCat("\"", name, "\" is given twice"));
      }
      call->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call->named.empty()) return Bad("an argument without a name follows one that has it");
      ASSIGN_OR_RETURN(ExprPtr value, ReadExpression());
      call->operands.push_back(std::move(value));
    }
  }
  Next();
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadCall(ExprPtr target) {
  const int line = current().line;
  if (target->kind == ExprKind::kName) unknown_.push_back({"function", target->name, line});
  if (target->kind == ExprKind::kAttribute && !IsKnownMethod(target->name)) {
    unknown_.push_back({"method", target->name, line});
  }
  Expr call = MakeExpr(ExprKind::kCall, line, "", std::move(target));
  RETURN_IF_ERROR(ReadArguments(&call));
  return Make(std::move(call));
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadFilters(ExprPtr target) {
  while (TakeSign("|")) {
    ASSIGN_OR_RETURN(target, ReadFilter(std::move(target)));
  }
  return target;
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadFilter(ExprPtr target) {
  const int line = current().line;
  ASSIGN_OR_RETURN(std::string name, TakeName());
  Expr filter = MakeExpr(ExprKind::kFilter, line, std::move(name), std::move(target));
  filter.builtin = FindFilter(filter.name);
  if (filter.builtin == nullptr) unknown_.push_back({"filter", filter.name, line});
  if (IsSign("(")) RETURN_IF_ERROR(ReadArguments(&filter));
  CheckNamesOf(filter);
  return Make(std::move(filter));
}

// The names of filters and tests that filters take, where they are constants.
void ExpressionParser::CheckNamesOf(const Expr& filter) {
  const bool maps = filter.name == "map";
  const bool picks = filter.name == "select" || filter.name == "reject";
  const bool picks_by = filter.name == "selectattr" || filter.name == "rejectattr";
  const size_t place = picks_by ? 2 : 1;
  if ((!maps && !picks && !picks_by) || filter.operands.size() <= place) return;
  const Expr& name = *filter.operands[place];
  if (name.kind != ExprKind::kConstant || !name.constant.IsString()) return;
  const std::string_view text = name.constant.AsBytes();
  if ((maps ? FindFilter(text) : FindTest(text)) != nullptr) return;
  unknown_.push_back({maps ? "filter" : "test", std::string(text), name.line});
}

absl::StatusOr<ExprPtr> ExpressionParser::ReadTest(ExprPtr target) {
  const int line = current().line;
  Next();
  const bool is_negated = TakeWord("not");
  ASSIGN_OR_RETURN(std::string name, TakeName());
  Expr test = MakeExpr(ExprKind::kTest, line, std::move(name), std::move(target));
  test.builtin = FindTest(test.name);
  if (test.builtin == nullptr) unknown_.push_back({"test", test.name, line});
  const bool begins_operand = kind() == TokenKind::kName || kind() == TokenKind::kString ||
                              kind() == TokenKind::kInteger || kind() == TokenKind::kFloat ||
                              IsSign("[") || IsSign("{");
  if (IsSign("(")) {
    RETURN_IF_ERROR(ReadArguments(&test));
  } else if (IsWord("is")) {
    return Bad("tests cannot be chained");
  } else if (begins_operand && !IsWord("else") && !IsWord("or") && !IsWord("and")) {
    ASSIGN_OR_RETURN(ExprPtr operand, ReadPrimary());
    ASSIGN_OR_RETURN(operand, ReadPostfix(std::move(operand)));
    test.operands.push_back(std::move(operand));
  }
  ASSIGN_OR_RETURN(ExprPtr value, Make(std::move(test)));
  if (!is_negated) return value;
  return Make(MakeExpr(ExprKind::kNot, line, "", std::move(value)));
}

absl::StatusOr<Target> ExpressionParser::ReadSingleTarget(bool with_attribute) {
  const Nested nested(this);
  RETURN_IF_ERROR(nested.status());
  if (TakeSign("(")) {
    ASSIGN_OR_RETURN(Target target, ReadTarget(")", with_attribute));
    RETURN_IF_ERROR(ExpectSign(")"));
    return target;
  }
  Target target{.line = current().line};
  ASSIGN_OR_RETURN(target.name, TakeName());
  constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
  if (std::find(std::begin(kReserved), std::end(kReserved), target.name) != std::end(kReserved)) {
    return Bad(absl::StrCat("\"", target.name, "\" cannot be assigned to"));
  }
  if (with_attribute && TakeSign(".")) {
    ASSIGN_OR_RETURN(target.attribute, TakeName());
  } else {
    Assign(target.name);
  }
  return target;
}

absl::StatusOr<Target> ExpressionParser::ReadTarget(std::string_view end, bool with_attribute) {
  Target tuple{.line = current().line};
  bool is_tuple = false;
  while (!IsSign(end) && !IsWord(end) && !EndsTuple()) {
    ASSIGN_OR_RETURN(Target target, ReadSingleTarget(with_attribute));
    tuple.items.push_back(std::move(target));
    if (!TakeSign(",")) break;
    is_tuple = true;
  }
  if (tuple.items.empty()) return Unexpected();
  if (is_tuple) return tuple;
  Target only = std::move(tuple.items[0]);
  return only;
}

absl::Status ExpressionParser::CheckUnknown() const {
  for (const Unknown& unknown : unknown_) {
    const bool is_function = std::string_view(unknown.what) == "function";
    if (is_function && (FindGlobal(unknown.name) != nullptr || assigned_.contains(unknown.name))) {
      continue;
    }
    return NotSupportedAt(unknown.line, unknown.what, unknown.name);
  }
  return absl::OkStatus();
}

}  // namespace pregate::jinja
