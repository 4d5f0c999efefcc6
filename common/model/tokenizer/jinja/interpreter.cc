#include "common/model/tokenizer/jinja/interpreter.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/lexer.h"
#include "common/model/tokenizer/jinja/methods.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/printing.h"

namespace pregate::jinja {

// Variables of a template, a loop, a macro or a block.
struct Scope {
  Scope* parent = nullptr;
  absl::flat_hash_map<std::string, Value> variables;
  bool is_closed_over = false;  // a macro looks into it
};

struct Macro {
  const Stmt* definition;
  Scope* scope;  // where it was defined
};

namespace {

using ExprKind = Expr::Kind;
using ValueKind = Value::Kind;
using Result = absl::StatusOr<Value>;

constexpr const char* kHasLine = "pregate/line";

// `status` with the line of the innermost expression that failed.
absl::Status WithLine(int line, const absl::Status& status) {
  if (IsRaised(status) || status.GetPayload(kHasLine)) return status;
  absl::Status out(status.code(), AtLine(line, std::string_view(status.message().data(),
                                                                status.message().size())));
  out.SetPayload(kHasLine, absl::Cord());
  return out;
}

class Interpreter {
 public:
  explicit Interpreter(Runtime* runtime) : runtime_(*runtime), heap_(runtime->heap) {}

  absl::StatusOr<MarkedText> Run(const Template& parsed, Variables variables) {
    for (auto& [name, value] : variables) globals_.variables[name] = std::move(value);
    Scope scope{.parent = &globals_};
    RETURN_IF_ERROR(Execute(parsed.body, &scope).status());
    return std::move(out_);
  }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  // One level deeper, while it lives.
  class Level {
   public:
    explicit Level(int* depth) : depth_(depth) { ++*depth_; }
    Level(const Level&) = delete;
    ~Level() { --*depth_; }
    absl::Status status() const {
      if (*depth_ <= kTemplateDepthMax) return absl::OkStatus();
      return absl::ResourceExhaustedError(
          absl::StrCat("calls and expressions are nested deeper than ", kTemplateDepthMax));
    }

   private:
    int* const depth_;
  };

  // Statements.

  absl::StatusOr<Flow> Execute(const Body& body, Scope* scope) {
    const Level level(&depth_);
    for (const Stmt& statement : body) {
      absl::StatusOr<Flow> flow =
          level.status().ok() ? ExecuteOne(statement, scope) : absl::StatusOr<Flow>(level.status());
      if (!flow.ok()) return WithLine(statement.line, flow.status());
      if (*flow != Flow::kOn) return flow;
    }
    return Flow::kOn;
  }

  absl::StatusOr<Flow> ExecuteOne(const Stmt& statement, Scope* scope) {
    RETURN_IF_ERROR(heap_.Step());
    switch (statement.kind) {
      case Stmt::Kind::kText:
        return Done(Print(statement.text.AsText()));
      case Stmt::Kind::kPrint:
        return Done(PrintValue(*statement.value, scope));
      case Stmt::Kind::kFor:
        return ExecuteFor(statement, scope);
      case Stmt::Kind::kIf:
        return ExecuteIf(statement, scope);
      case Stmt::Kind::kSet:
        return Done(ExecuteSet(statement, scope));
      case Stmt::Kind::kSetBlock:
        return Done(ExecuteSetBlock(statement, scope));
      case Stmt::Kind::kMacro:
        return Done(DefineMacro(statement, scope));
      case Stmt::Kind::kWith:
        return ExecuteWith(statement, scope);
      case Stmt::Kind::kFilter:
        return Done(ExecuteFilter(statement, scope));
      case Stmt::Kind::kScope:
        return ExecuteInScope(statement.body, scope, {});
      case Stmt::Kind::kBreak:
        return Flow::kBreak;
      case Stmt::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kOn;
  }

  static absl::StatusOr<Flow> Done(const absl::Status& status) {
    if (!status.ok()) return status;
    return Flow::kOn;
  }

  absl::Status Print(const MarkedText& text) {
    RETURN_IF_ERROR(heap_.StepBytes(text.size()));
    RETURN_IF_ERROR(CheckTextBytes(out_.size() + text.size()));
    RETURN_IF_ERROR(heap_.Take(static_cast<int64_t>(text.size())));
    out_.Append(text);
    return absl::OkStatus();
  }

  absl::Status PrintValue(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(expr, scope));
    if (value.IsString()) return Print(value.AsText());
    ASSIGN_OR_RETURN(const MarkedText text, Str(heap_, value));
    return Print(text);
  }

  // What `body` prints, in a scope of its own.
  Result Capture(const Body& body, Scope* scope, Variables variables) {
    MarkedText outer = std::exchange(out_, MarkedText());
    const auto flow = ExecuteInScope(body, scope, std::move(variables));
    MarkedText printed = std::exchange(out_, std::move(outer));
    RETURN_IF_ERROR(flow.status());
    heap_.GiveBack(static_cast<int64_t>(printed.size()));
    return heap_.String(std::move(printed));
  }

  absl::StatusOr<Flow> ExecuteInScope(const Body& body, Scope* parent, Variables variables) {
    auto scope = std::make_unique<Scope>(Scope{.parent = parent});
    for (auto& [name, value] : variables) scope->variables[name] = std::move(value);
    const auto flow = Execute(body, scope.get());
    Leave(std::move(scope));
    return flow;
  }

  // A scope that a macro looks into stays until the end.
  void Leave(std::unique_ptr<Scope> scope) {
    if (scope->is_closed_over) kept_.push_back(std::move(scope));
  }

  absl::StatusOr<std::vector<Value>> LoopItems(const Stmt& loop, Scope* scope) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(*loop.value, scope));
    ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(heap_, value));
    if (loop.condition == nullptr) return items;
    std::vector<Value> kept;
    Scope inner{.parent = scope};
    for (Value& item : items) {
      inner.variables.clear();
      RETURN_IF_ERROR(Assign(loop.targets[0], item, &inner));
      ASSIGN_OR_RETURN(const Value passes, Evaluate(*loop.condition, &inner));
      if (IsTrue(passes)) kept.push_back(std::move(item));
    }
    return kept;
  }

  // As jinja2 has it, `else` is for loops of which no iteration came to its end.
  absl::StatusOr<Flow> ExecuteFor(const Stmt& loop, Scope* parent) {
    ASSIGN_OR_RETURN(std::vector<Value> items, LoopItems(loop, parent));
    ASSIGN_OR_RETURN(const Value state, heap_.Loop(std::move(items)));
    auto scope = std::make_unique<Scope>(Scope{.parent = parent});
    const auto any_ended = Iterations(loop, state, scope.get());
    Leave(std::move(scope));
    RETURN_IF_ERROR(any_ended.status());
    if (*any_ended) return Flow::kOn;
    return ExecuteInScope(loop.otherwise, parent, {});
  }

  absl::StatusOr<bool> Iterations(const Stmt& loop, const Value& state, Scope* scope) {
    LoopRep& rep = state.AsLoop();
    bool any_ended = false;
    for (rep.index = 0; rep.index < rep.items.size(); ++rep.index) {
      RETURN_IF_ERROR(heap_.Step());
      scope->variables.clear();
      RETURN_IF_ERROR(Assign(loop.targets[0], rep.items[rep.index], scope));
      scope->variables["loop"] = state;
      ASSIGN_OR_RETURN(const Flow flow, Execute(loop.body, scope));
      if (flow == Flow::kBreak) break;
      any_ended |= flow == Flow::kOn;
    }
    return any_ended;
  }

  absl::StatusOr<Flow> ExecuteIf(const Stmt& branches, Scope* scope) {
    for (size_t i = 0; i < branches.values.size(); ++i) {
      ASSIGN_OR_RETURN(const Value condition, Evaluate(*branches.values[i], scope));
      if (IsTrue(condition)) return Execute(branches.bodies[i], scope);
    }
    return Execute(branches.otherwise, scope);
  }

  absl::Status ExecuteSet(const Stmt& set, Scope* scope) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*set.value, scope));
    return Assign(set.targets[0], std::move(value), scope);
  }

  absl::Status ExecuteSetBlock(const Stmt& set, Scope* scope) {
    ASSIGN_OR_RETURN(Value value, Capture(set.body, scope, {}));
    if (set.value != nullptr) {
      ASSIGN_OR_RETURN(value, EvaluatePiped(*set.value, std::move(value), scope));
    }
    return Assign(set.targets[0], std::move(value), scope);
  }

  absl::Status ExecuteFilter(const Stmt& filter, Scope* scope) {
    ASSIGN_OR_RETURN(Value value, Capture(filter.body, scope, {}));
    ASSIGN_OR_RETURN(value, EvaluatePiped(*filter.value, std::move(value), scope));
    ASSIGN_OR_RETURN(const MarkedText text, Str(heap_, value));
    return Print(text);
  }

  Result EvaluatePiped(const Expr& filters, Value value, Scope* scope) {
    std::swap(piped_, value);
    Result out = Evaluate(filters, scope);
    std::swap(piped_, value);
    return out;
  }

  absl::StatusOr<Flow> ExecuteWith(const Stmt& with, Scope* parent) {
    auto scope = std::make_unique<Scope>(Scope{.parent = parent});
    for (size_t i = 0; i < with.targets.size(); ++i) {
      ASSIGN_OR_RETURN(Value value, Evaluate(*with.values[i], parent));
      RETURN_IF_ERROR(Assign(with.targets[i], std::move(value), scope.get()));
    }
    const auto flow = Execute(with.body, scope.get());
    Leave(std::move(scope));
    return flow;
  }

  absl::Status DefineMacro(const Stmt& definition, Scope* scope) {
    RETURN_IF_ERROR(heap_.Take(sizeof(Macro)));
    macros_.push_back(std::make_unique<Macro>(Macro{&definition, scope}));
    for (Scope* s = scope; s != nullptr; s = s->parent) s->is_closed_over = true;
    ASSIGN_OR_RETURN(scope->variables[definition.name],
                     heap_.Function({.macro = macros_.back().get()}));
    return absl::OkStatus();
  }

  absl::Status Assign(const Target& target, Value value, Scope* scope) {
    if (!target.attribute.empty()) return AssignAttribute(target, std::move(value), scope);
    if (!target.name.empty()) {
      scope->variables[target.name] = std::move(value);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(heap_, value));
    if (items.size() != target.items.size()) {
      return absl::InvalidArgumentError(absl::StrCat(items.size(), " values cannot be assigned to ",
                                                     target.items.size(), " names"));
    }
    for (size_t i = 0; i < items.size(); ++i) {
      RETURN_IF_ERROR(Assign(target.items[i], std::move(items[i]), scope));
    }
    return absl::OkStatus();
  }

  absl::Status AssignAttribute(const Target& target, Value value, Scope* scope) {
    const Value space = Lookup(target.name, scope);
    if (!space.Is(ValueKind::kNamespace)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", target.name, "\" is ", space.KindName(), " and no namespace"));
    }
    if (target.attribute.starts_with('_')) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", target.attribute, "\" of a namespace begins with _"));
    }
    NamespaceRep& rep = space.AsNamespace();
    RETURN_IF_ERROR(heap_.Step(1 + static_cast<int64_t>(rep.members.size() / 16)));
    if (Value* const member = rep.Find(target.attribute)) {
      *member = std::move(value);
    } else {
      rep.members.emplace_back(target.attribute, std::move(value));
    }
    return absl::OkStatus();
  }

  // Expressions.

  Result Evaluate(const Expr& expr, Scope* scope) {
    const Level level(&depth_);
    Result value = level.status().ok() ? EvaluateOne(expr, scope) : Result(level.status());
    if (!value.ok()) return WithLine(expr.line, value.status());
    return value;
  }

  Result EvaluateOne(const Expr& expr, Scope* scope) {
    RETURN_IF_ERROR(heap_.Step());
    switch (expr.kind) {
      case ExprKind::kConstant:
        return expr.constant;
      case ExprKind::kName:
        return EvaluateName(expr.name, scope);
      case ExprKind::kList:
        return EvaluateItems(ValueKind::kList, expr, scope);
      case ExprKind::kTuple:
        return EvaluateItems(ValueKind::kTuple, expr, scope);
      case ExprKind::kDict:
        return EvaluateDict(expr, scope);
      case ExprKind::kAttribute:
        return EvaluateAttribute(expr, scope);
      case ExprKind::kItem:
        return EvaluateItem(expr, scope);
      case ExprKind::kSlice:
        return EvaluateSlice(expr, scope);
      case ExprKind::kCall:
        return EvaluateCall(expr, scope);
      case ExprKind::kFilter:
      case ExprKind::kTest:
        return EvaluateBuiltin(expr, scope);
      case ExprKind::kNot:
      case ExprKind::kSign:
        return EvaluateUnary(expr, scope);
      case ExprKind::kArithmetic:
        return EvaluateArithmetic(expr, scope);
      case ExprKind::kConcat:
        return EvaluateConcat(expr, scope);
      case ExprKind::kCompare:
        return EvaluateCompare(expr, scope);
      case ExprKind::kAnd:
      case ExprKind::kOr:
        return EvaluateLogic(expr, scope);
      case ExprKind::kConditional:
        return EvaluateConditional(expr, scope);
      case ExprKind::kPiped:
        return piped_;
    }
    return Value();
  }

  Value Lookup(const std::string& name, const Scope* scope) const {
    for (; scope != nullptr; scope = scope->parent) {
      const auto it = scope->variables.find(name);
      if (it != scope->variables.end()) return it->second;
    }
    return Value::MakeUndefined(absl::StrCat("\"", name, "\" is undefined"));
  }

  Result EvaluateName(const std::string& name, const Scope* scope) {
    for (const Scope* s = scope; s != nullptr; s = s->parent) {
      const auto it = s->variables.find(name);
      if (it != s->variables.end()) return it->second;
    }
    if (const Builtin* builtin = FindGlobal(name)) return heap_.Function({.builtin = builtin});
    if (IsUnsupportedGlobal(name)) return NotSupported("function", name);
    return Lookup(name, nullptr);
  }

  absl::StatusOr<std::vector<Value>> EvaluateAll(const std::vector<ExprPtr>& exprs, size_t first,
                                                 Scope* scope) {
    std::vector<Value> values;
    for (size_t i = first; i < exprs.size(); ++i) {
      ASSIGN_OR_RETURN(Value value, Evaluate(*exprs[i], scope));
      values.push_back(std::move(value));
    }
    return values;
  }

  Result EvaluateItems(ValueKind kind, const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(auto items, EvaluateAll(expr.operands, 0, scope));
    return heap_.Sequence(kind, std::move(items));
  }

  Result EvaluateDict(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(auto items, EvaluateAll(expr.operands, 0, scope));
    std::vector<Value::Pair> pairs;
    for (size_t i = 0; i < items.size(); i += 2) {
      RETURN_IF_ERROR(SetItem(std::move(items[i]), std::move(items[i + 1]), &pairs));
    }
    return heap_.Dict(std::move(pairs));
  }

  absl::Status SetItem(Value key, Value value, std::vector<Value::Pair>* pairs) {
    if (!IsHashable(key)) {
      return absl::InvalidArgumentError(absl::StrCat("a key of a dict is a ", key.KindName()));
    }
    for (auto& [known, item] : *pairs) {
      ASSIGN_OR_RETURN(const bool same, Equals(heap_, known, key));
      if (!same) continue;
      item = std::move(value);
      return absl::OkStatus();
    }
    pairs->emplace_back(std::move(key), std::move(value));
    return absl::OkStatus();
  }

  Result EvaluateAttribute(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value target, Evaluate(*expr.operands[0], scope));
    return Attribute(heap_, target, expr.name);
  }

  Result EvaluateItem(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value target, Evaluate(*expr.operands[0], scope));
    ASSIGN_OR_RETURN(const Value key, Evaluate(*expr.operands[1], scope));
    return Item(heap_, target, key);
  }

  Result EvaluateSlice(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value target, Evaluate(*expr.operands[0], scope));
    Value bounds[3];
    for (size_t i = 0; i < 3; ++i) {
      if (expr.operands[i + 1] == nullptr) continue;
      ASSIGN_OR_RETURN(bounds[i], Evaluate(*expr.operands[i + 1], scope));
    }
    return Slice(heap_, target, bounds[0], bounds[1], bounds[2]);
  }

  absl::StatusOr<Arguments> EvaluateArguments(const Expr& expr, Scope* scope) {
    Arguments arguments;
    ASSIGN_OR_RETURN(arguments.positional, EvaluateAll(expr.operands, 1, scope));
    for (const auto& [name, value] : expr.named) {
      ASSIGN_OR_RETURN(Value argument, Evaluate(*value, scope));
      arguments.named.emplace_back(name, std::move(argument));
    }
    return arguments;
  }

  Result EvaluateCall(const Expr& expr, Scope* scope) {
    const Expr& called = *expr.operands[0];
    if (called.kind == ExprKind::kAttribute && !IsKnownMethod(called.name)) {
      return NotSupported("method", called.name);
    }
    ASSIGN_OR_RETURN(const Value callee, Evaluate(called, scope));
    ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(expr, scope));
    if (callee.IsUndefined()) return UndefinedError(callee);
    if (!callee.Is(ValueKind::kFunction)) {
      return absl::InvalidArgumentError(absl::StrCat("a ", callee.KindName(), " cannot be called"));
    }
    const FunctionRep& function = callee.AsFunction();
    if (function.macro != nullptr) return CallMacro(*function.macro, std::move(arguments));
    return CallBuiltin(runtime_, *function.builtin, function.self, std::move(arguments));
  }

  Result CallMacro(const Macro& macro, Arguments arguments) {
    const Stmt& definition = *macro.definition;
    const std::vector<Parameter>& parameters = definition.parameters;
    if (arguments.positional.size() > parameters.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the macro \"", definition.name, "\" takes at most ", parameters.size(), " arguments"));
    }
    Scope scope{.parent = macro.scope};
    for (size_t i = 0; i < arguments.positional.size(); ++i) {
      scope.variables[parameters[i].name] = std::move(arguments.positional[i]);
    }
    for (auto& [name, value] : arguments.named) {
      RETURN_IF_ERROR(BindNamed(definition, name, std::move(value), &scope));
    }
    for (const Parameter& parameter : parameters) {
      RETURN_IF_ERROR(BindFallback(parameter, &scope));
    }
    Variables variables(scope.variables.begin(), scope.variables.end());
    return Capture(definition.body, macro.scope, std::move(variables));
  }

  static absl::Status BindNamed(const Stmt& macro, const std::string& name, Value value,
                                Scope* scope) {
    const bool is_known = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                      [&](const Parameter& p) { return p.name == name; });
    if (is_known && scope->variables.try_emplace(name, std::move(value)).second) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("the macro \"", macro.name, "\" ",
                                                   is_known ? "gets twice" : "does not take", " \"",
                                                   name, "\""));
  }

  absl::Status BindFallback(const Parameter& parameter, Scope* scope) {
    if (scope->variables.contains(parameter.name)) return absl::OkStatus();
    Value value = Value::MakeUndefined(absl::StrCat("\"", parameter.name, "\" was not given"));
    if (parameter.fallback != nullptr) {
      ASSIGN_OR_RETURN(value, Evaluate(*parameter.fallback, scope));
    }
    scope->variables[parameter.name] = std::move(value);
    return absl::OkStatus();
  }

  Result EvaluateBuiltin(const Expr& expr, Scope* scope) {
    if (expr.builtin == nullptr) {
      return NotSupported(expr.kind == ExprKind::kFilter ? "filter" : "test", expr.name);
    }
    ASSIGN_OR_RETURN(const Value target, Evaluate(*expr.operands[0], scope));
    ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(expr, scope));
    return CallBuiltin(runtime_, *expr.builtin, target, std::move(arguments));
  }

  Result EvaluateUnary(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value operand, Evaluate(*expr.operands[0], scope));
    return expr.kind == ExprKind::kNot ? Result(Value(!IsTrue(operand)))
                                       : Signed(expr.name, operand);
  }

  Result EvaluateArithmetic(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value left, Evaluate(*expr.operands[0], scope));
    ASSIGN_OR_RETURN(const Value right, Evaluate(*expr.operands[1], scope));
    return Calculate(heap_, expr.name, left, right);
  }

  Result EvaluateConcat(const Expr& expr, Scope* scope) {
    MarkedText out;
    for (const ExprPtr& operand : expr.operands) {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*operand, scope));
      ASSIGN_OR_RETURN(const MarkedText text, Str(heap_, value));
      RETURN_IF_ERROR(CheckTextBytes(out.size() + text.size()));
      out.Append(text);
    }
    return heap_.String(std::move(out));
  }

  // a < b < c is a < b and b < c.
  Result EvaluateCompare(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(Value left, Evaluate(*expr.operands[0], scope));
    for (size_t i = 0; i < expr.signs.size(); ++i) {
      ASSIGN_OR_RETURN(Value right, Evaluate(*expr.operands[i + 1], scope));
      ASSIGN_OR_RETURN(const bool holds, Holds(heap_, expr.signs[i], left, right));
      if (!holds) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  Result EvaluateLogic(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(Value left, Evaluate(*expr.operands[0], scope));
    if (IsTrue(left) == (expr.kind == ExprKind::kOr)) return left;
    return Evaluate(*expr.operands[1], scope);
  }

  Result EvaluateConditional(const Expr& expr, Scope* scope) {
    ASSIGN_OR_RETURN(const Value condition, Evaluate(*expr.operands[0], scope));
    if (IsTrue(condition)) return Evaluate(*expr.operands[1], scope);
    if (expr.operands[2] != nullptr) return Evaluate(*expr.operands[2], scope);
    return Value::MakeUndefined("a condition is false and has no else");
  }

  Runtime& runtime_;
  Heap& heap_;
  Scope globals_;
  std::vector<std::unique_ptr<Scope>> kept_;
  std::vector<std::unique_ptr<Macro>> macros_;
  MarkedText out_;
  Value piped_;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<MarkedText> Render(const Template& parsed, Variables variables, Runtime* runtime) {
  return Interpreter(runtime).Run(parsed, std::move(variables));
}

}  // namespace pregate::jinja
