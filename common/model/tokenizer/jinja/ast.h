// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

struct Builtin;

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum class Kind : uint8_t {
    kConstant,
    kName,
    kList,
    kTuple,
    kDict,       // keys and values by turns
    kAttribute,  // .name of operands[0]
    kItem,       // operands[0][operands[1]]
    kSlice,      // operands[0][1:2:3], of which each may be null
    kCall,       // operands[0](1, 2, ..., named)
    kFilter,     // operands[0] | name(1, 2, ..., named)
    kTest,       // operands[0] is name(1, 2, ..., named)
    kNot,
    kSign,        // name is + or -
    kArithmetic,  // name is the sign
    kConcat,      // of all
    kCompare,     // operands[0] and signs[i] operands[i + 1]
    kAnd,
    kOr,
    kConditional,  // 1 if 0 else 2, which may be null
    kPiped,        // what a filter of a block gets
  };
  Kind kind;
  int line;
  int depth = 1;  // of the expressions below it, and itself
  std::string name;
  Value constant;
  std::vector<ExprPtr> operands;
  std::vector<std::string> signs;
  std::vector<std::pair<std::string, ExprPtr>> named;
  const Builtin* builtin = nullptr;  // the filter or test
};

// What can be assigned to.
struct Target {
  int line;
  std::string name;           // empty: a tuple
  std::string attribute;      // of the namespace `name`; empty: the variable itself
  std::vector<Target> items;  // of a tuple
};

struct Stmt;
using Body = std::vector<Stmt>;

struct Parameter {
  std::string name;
  ExprPtr fallback;  // null: undefined
};

struct Stmt {
  enum class Kind : uint8_t {
    kText,      // prints `text`
    kPrint,     // prints `value`
    kFor,       // `targets[0]` in `value` if `condition`: `body`, else `otherwise`
    kIf,        // the first of `bodies` whose one of `values` is true, else `otherwise`
    kSet,       // `targets[0]` = `value`
    kSetBlock,  // `targets[0]` = what `body` prints, through `value`, which may be null
    kMacro,     // `name`(`parameters`): `body`
    kWith,      // `targets[i]` = `values[i]`: `body`
    kFilter,    // what `body` prints, through `value`
    kScope,     // `body` with variables of its own
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  Value text;
  ExprPtr value, condition;
  std::vector<Target> targets;
  std::vector<ExprPtr> values;
  Body body, otherwise;
  std::vector<Body> bodies;
  std::string name;
  std::vector<Parameter> parameters;
};

struct Template {
  Body body;
  // Whether it reads the "text" of typed parts of a content; others are given text alone.
  bool reads_parts = false;
};

}  // namespace pregate::jinja
