#include "common/model/tokenizer/jinja/parser.h"

#include <algorithm>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/jinja/expression_parser.h"
#include "common/model/tokenizer/jinja/lexer.h"

namespace pregate::jinja {
namespace {

using StmtKind = Stmt::Kind;
using TokenKind = Token::Kind;

class StatementParser {
 public:
  explicit StatementParser(std::vector<Token> tokens) : words_(std::move(tokens)) {}

  absl::StatusOr<Template> Parse() {
    Template parsed;
    ASSIGN_OR_RETURN(parsed.body, ReadBody({}));
    RETURN_IF_ERROR(words_.CheckUnknown());
    parsed.reads_parts = words_.reads_parts();
    return parsed;
  }

 private:
  // Up to the tag whose first word is among `ends`, over its beginning; or to the end of all.
  absl::StatusOr<Body> ReadBody(absl::Span<const std::string_view> ends) {
    const Nested nested(&words_);
    RETURN_IF_ERROR(nested.status());
    Body body;
    while (words_.kind() != TokenKind::kEnd) {
      const Token& token = words_.current();
      if (token.kind == TokenKind::kData) {
        body.push_back(
            {.kind = StmtKind::kText, .line = token.line, .text = ConstantString(token.text)});
        words_.Next();
      } else if (token.kind == TokenKind::kVariableBegin) {
        ASSIGN_OR_RETURN(Stmt print, ReadPrint());
        body.push_back(std::move(print));
      } else {
        words_.Next();
        if (std::find(ends.begin(), ends.end(), words_.current().text) != ends.end() &&
            words_.kind() == TokenKind::kName) {
          return body;
        }
        ASSIGN_OR_RETURN(Stmt statement, ReadStatement());
        body.push_back(std::move(statement));
      }
    }
    if (ends.empty()) return body;
    return words_.Bad(absl::StrCat("\"", std::string(ends.back()), "\" is missing"));
  }

  absl::StatusOr<Stmt> ReadPrint() {
    Stmt print{.kind = StmtKind::kPrint, .line = words_.current().line};
    words_.Next();
    ASSIGN_OR_RETURN(print.value, words_.ReadTuple());
    RETURN_IF_ERROR(words_.ExpectKind(TokenKind::kVariableEnd, "}}"));
    return print;
  }

  absl::Status EndTag() { return words_.ExpectKind(TokenKind::kBlockEnd, "%}"); }

  // The body up to {% NAME %}, over that.
  absl::StatusOr<Body> ReadBodyUntil(std::string_view end) {
    ASSIGN_OR_RETURN(Body body, ReadBody({end}));
    words_.Next();
    RETURN_IF_ERROR(EndTag());
    return body;
  }

  absl::StatusOr<Stmt> ReadStatement() {
    if (words_.kind() != TokenKind::kName) return words_.Unexpected();
    const Token name = words_.current();
    words_.Next();
    if (name.text == "for") return ReadFor(name.line);
    if (name.text == "if") return ReadIf(name.line);
    if (name.text == "set") return ReadSet(name.line);
    if (name.text == "macro") return ReadMacro(name.line);
    if (name.text == "with") return ReadWith(name.line);
    if (name.text == "filter") return ReadFilter(name.line);
    if (name.text == "generation") return ReadGeneration(name.line);
    if (name.text == "break" || name.text == "continue") return ReadJump(name);
    if (name.text.starts_with("end") || name.text == "else" || name.text == "elif") {
      return absl::InvalidArgumentError(
          AtLine(name.line, absl::StrCat("unexpected \"", name.text, "\"")));
    }
    return absl::UnimplementedError(
        AtLine(name.line,
               absl::StrCat("the statement \"", name.text.substr(0, 64), "\" is not supported")));
  }

  absl::StatusOr<Stmt> ReadJump(const Token& name) {
    if (loops_ == 0) {
      return absl::InvalidArgumentError(
          AtLine(name.line, absl::StrCat("\"", name.text, "\" outside of a loop")));
    }
    RETURN_IF_ERROR(EndTag());
    return Stmt{.kind = name.text == "break" ? StmtKind::kBreak : StmtKind::kContinue,
                .line = name.line};
  }

  absl::StatusOr<Stmt> ReadFor(int line) {
    Stmt loop{.kind = StmtKind::kFor, .line = line};
    ASSIGN_OR_RETURN(Target target, words_.ReadTarget("in", /*with_attribute=*/false));
    loop.targets.push_back(std::move(target));
    RETURN_IF_ERROR(words_.ExpectWord("in"));
    ASSIGN_OR_RETURN(loop.value, words_.ReadTuple(/*with_condition=*/false));
    if (words_.TakeWord("if")) {
      ASSIGN_OR_RETURN(loop.condition, words_.ReadExpression());
    }
    if (words_.IsWord("recursive")) return words_.Unsupported("a recursive loop");
    RETURN_IF_ERROR(EndTag());
    ++loops_;
    ASSIGN_OR_RETURN(loop.body, ReadBody({"else", "endfor"}));
    --loops_;
    if (words_.TakeWord("else")) {
      RETURN_IF_ERROR(EndTag());
      ASSIGN_OR_RETURN(loop.otherwise, ReadBody({"endfor"}));
    }
    words_.Next();
    RETURN_IF_ERROR(EndTag());
    return loop;
  }

  absl::StatusOr<Stmt> ReadIf(int line) {
    Stmt branches{.kind = StmtKind::kIf, .line = line};
    const size_t begin = words_.BeginBranch();
    while (true) {
      ASSIGN_OR_RETURN(ExprPtr condition, words_.ReadTuple(/*with_condition=*/false));
      branches.values.push_back(std::move(condition));
      RETURN_IF_ERROR(EndTag());
      ASSIGN_OR_RETURN(Body body, ReadBody({"elif", "else", "endif"}));
      branches.bodies.push_back(std::move(body));
      if (words_.TakeWord("elif")) continue;
      if (words_.TakeWord("else")) {
        RETURN_IF_ERROR(EndTag());
        ASSIGN_OR_RETURN(branches.otherwise, ReadBody({"endif"}));
      }
      words_.Next();
      RETURN_IF_ERROR(EndTag());
      words_.EndBranch(begin);
      return branches;
    }
  }

  absl::StatusOr<Stmt> ReadSet(int line) {
    Stmt set{.kind = StmtKind::kSet, .line = line};
    ASSIGN_OR_RETURN(Target target, words_.ReadTarget("=", /*with_attribute=*/true));
    set.targets.push_back(std::move(target));
    if (words_.TakeSign("=")) {
      ASSIGN_OR_RETURN(set.value, words_.ReadTuple());
      RETURN_IF_ERROR(EndTag());
      return set;
    }
    set.kind = StmtKind::kSetBlock;
    if (words_.IsSign("|")) {
      ASSIGN_OR_RETURN(set.value, words_.ReadFilters(words_.Piped(line)));
    }
    RETURN_IF_ERROR(EndTag());
    ASSIGN_OR_RETURN(set.body, ReadBodyUntil("endset"));
    return set;
  }

  absl::StatusOr<Stmt> ReadFilter(int line) {
    Stmt filter{.kind = StmtKind::kFilter, .line = line};
    ASSIGN_OR_RETURN(filter.value, words_.ReadFilter(words_.Piped(line)));
    ASSIGN_OR_RETURN(filter.value, words_.ReadFilters(std::move(filter.value)));
    RETURN_IF_ERROR(EndTag());
    ASSIGN_OR_RETURN(filter.body, ReadBodyUntil("endfilter"));
    return filter;
  }

  absl::StatusOr<Stmt> ReadMacro(int line) {
    Stmt macro{.kind = StmtKind::kMacro, .line = line};
    ASSIGN_OR_RETURN(macro.name, words_.TakeName());
    words_.Assign(macro.name);
    RETURN_IF_ERROR(words_.ExpectSign("("));
    while (!words_.IsSign(")")) {
      if (!macro.parameters.empty()) RETURN_IF_ERROR(words_.ExpectSign(","));
      Parameter parameter;
      ASSIGN_OR_RETURN(parameter.name, words_.TakeName());
      words_.Assign(parameter.name);
      if (words_.TakeSign("=")) {
        ASSIGN_OR_RETURN(parameter.fallback, words_.ReadExpression());
      } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
        return words_.Bad("a parameter without a default follows one that has it");
      }
      macro.parameters.push_back(std::move(parameter));
    }
    words_.Next();
    RETURN_IF_ERROR(EndTag());
    ASSIGN_OR_RETURN(macro.body, ReadOutsideOfLoops("endmacro"));
    return macro;
  }

  // A body from which no break leads to a loop around it.
  absl::StatusOr<Body> ReadOutsideOfLoops(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    ASSIGN_OR_RETURN(Body body, ReadBodyUntil(end));
    loops_ = loops;
    return body;
  }

  absl::StatusOr<Stmt> ReadWith(int line) {
    Stmt with{.kind = StmtKind::kWith, .line = line};
    while (words_.kind() != TokenKind::kBlockEnd) {
      if (!with.targets.empty()) RETURN_IF_ERROR(words_.ExpectSign(","));
      ASSIGN_OR_RETURN(Target target, words_.ReadSingleTarget(/*with_attribute=*/false));
      with.targets.push_back(std::move(target));
      RETURN_IF_ERROR(words_.ExpectSign("="));
      ASSIGN_OR_RETURN(ExprPtr value, words_.ReadExpression());
      with.values.push_back(std::move(value));
    }
    RETURN_IF_ERROR(EndTag());
    ASSIGN_OR_RETURN(with.body, ReadBodyUntil("endwith"));
    return with;
  }

  absl::StatusOr<Stmt> ReadGeneration(int line) {
    Stmt scope{.kind = StmtKind::kScope, .line = line};
    RETURN_IF_ERROR(EndTag());
    ASSIGN_OR_RETURN(scope.body, ReadOutsideOfLoops("endgeneration"));
    return scope;
  }

  ExpressionParser words_;
  int loops_ = 0;  // around what is read
};

}  // namespace

absl::StatusOr<Template> Parse(std::string_view source) {
  if (source.size() > kTemplateSourceBytesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a template of ", source.size(), " bytes, at most ", kTemplateSourceBytesMax));
  }
  if (!IsUtf8(source)) return absl::InvalidArgumentError("the template is not UTF-8");
  ASSIGN_OR_RETURN(std::vector<Token> tokens, ReadTokens(source));
  return StatementParser(std::move(tokens)).Parse();
}

}  // namespace pregate::jinja
