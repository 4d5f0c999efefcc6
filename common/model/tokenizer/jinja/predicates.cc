// Tests ("is defined"), as jinja2 3.1 defines them.
#include <algorithm>

#include "common/base/status.h"
#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/printing.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;
using Result = absl::StatusOr<Value>;

Result DefinedTest(Runtime&, const Value& self, const Bound&) { return Value(!self.IsUndefined()); }
Result UndefinedTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.IsUndefined());
}
Result NoneTest(Runtime&, const Value& self, const Bound&) { return Value(self.IsNone()); }
Result BooleanTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kBool));
}
Result TrueTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kBool) && self.AsBool());
}
Result FalseTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kBool) && !self.AsBool());
}
Result IntegerTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kInt));
}
Result FloatTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kFloat));
}
Result NumberTest(Runtime&, const Value& self, const Bound&) { return Value(self.IsNumber()); }
Result StringTest(Runtime&, const Value& self, const Bound&) { return Value(self.IsString()); }
Result MappingTest(Runtime&, const Value& self, const Bound&) { return Value(self.IsDict()); }
// An undefined value pretends to be: calling it says what is missing.
Result CallableTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.Is(ValueKind::kFunction) || self.IsUndefined());
}

// What has a length and items; an undefined value pretends to.
Result SequenceTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.IsString() || self.IsDict() || self.IsUndefined() ||
               self.Is(ValueKind::kList) || self.Is(ValueKind::kTuple) ||
               self.Is(ValueKind::kRange));
}
Result IterableTest(Runtime&, const Value& self, const Bound&) {
  return Value(self.IsString() || self.IsDict() || self.IsUndefined() || self.IsSequence() ||
               self.Is(ValueKind::kLoop));
}

Result DivisibleByTest(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Value rest, Calculate(run.heap, "%", self, a[0]));
  ASSIGN_OR_RETURN(const bool is_zero, Equals(run.heap, rest, Value(int64_t{0})));
  return Value(is_zero);
}
Result Remains(Runtime& run, const Value& self, int64_t rest) {
  if (self.IsString()) return absl::InvalidArgumentError("odd and even of a string");
  ASSIGN_OR_RETURN(const Value found, Calculate(run.heap, "%", self, Value(int64_t{2})));
  ASSIGN_OR_RETURN(const bool same, Equals(run.heap, found, Value(rest)));
  return Value(same);
}
Result OddTest(Runtime& run, const Value& self, const Bound&) { return Remains(run, self, 1); }
Result EvenTest(Runtime& run, const Value& self, const Bound&) { return Remains(run, self, 0); }

template <const char* kSign>
Result Compares(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const bool holds, Holds(run.heap, kSign, self, a[0]));
  return Value(holds);
}
constexpr char kEqual[] = "==", kUnequal[] = "!=", kLess[] = "<",
               kLessEqual[] = "<=", kGreater[] = ">", kGreaterEqual[] = ">=", kIn[] = "in";

Result SameAsTest(Runtime&, const Value& self, const Bound& a) { return Value(self.IsSame(a[0])); }

// Of a name that jinja2 knows and we do not, the answer would mislead a template.
constexpr std::string_view kOtherFilters[] = {
    "attr",   "batch",     "center",   "filesizeformat", "forceescape", "groupby",
    "pprint", "random",    "slice",    "striptags",      "truncate",    "urlencode",
    "urlize", "wordcount", "wordwrap", "xmlattr"};

// What has no hash is in no table.
absl::Status CheckHash(const Value& value) {
  if (!value.IsDict() && !value.Is(ValueKind::kList)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a ", value.KindName(), " names nothing"));
}

Result FilterTest(Runtime&, const Value& self, const Bound&) {
  RETURN_IF_ERROR(CheckHash(self));
  if (!self.IsString()) return Value(false);
  const std::string_view name = self.AsBytes();
  if (std::find(std::begin(kOtherFilters), std::end(kOtherFilters), name) !=
      std::end(kOtherFilters)) {
    return NotSupported("filter", name);
  }
  return Value(FindFilter(name) != nullptr);
}
Result TestTest(Runtime&, const Value& self, const Bound&) {
  RETURN_IF_ERROR(CheckHash(self));
  if (!self.IsString()) return Value(false);
  if (self.AsBytes() == "escaped") return NotSupported("test", "escaped");
  return Value(FindTest(self.AsBytes()) != nullptr);
}

// The text's method of that name.
Result AsksText(Runtime& run, const Value& self, const char* method) {
  ASSIGN_OR_RETURN(MarkedText text, Str(run.heap, self));
  ASSIGN_OR_RETURN(const Value string, run.heap.String(std::move(text)));
  ASSIGN_OR_RETURN(const Value function, Attribute(run.heap, string, method));
  return CallBuiltin(run, *function.AsFunction().builtin, string, {});
}
Result UpperTest(Runtime& run, const Value& self, const Bound&) {
  return AsksText(run, self, "isupper");
}
Result LowerTest(Runtime& run, const Value& self, const Bound&) {
  return AsksText(run, self, "islower");
}

constexpr Builtin kTests[] = {
    {"!=", {"other"}, 1, Compares<kUnequal>},
    {"<", {"other"}, 1, Compares<kLess>},
    {"<=", {"other"}, 1, Compares<kLessEqual>},
    {"==", {"other"}, 1, Compares<kEqual>},
    {">", {"other"}, 1, Compares<kGreater>},
    {">=", {"other"}, 1, Compares<kGreaterEqual>},
    {"boolean", {}, 0, BooleanTest},
    {"callable", {}, 0, CallableTest},
    {"defined", {}, 0, DefinedTest},
    {"divisibleby", {"num"}, 1, DivisibleByTest},
    {"eq", {"other"}, 1, Compares<kEqual>},
    {"equalto", {"other"}, 1, Compares<kEqual>},
    {"even", {}, 0, EvenTest},
    {"false", {}, 0, FalseTest},
    {"filter", {}, 0, FilterTest},
    {"float", {}, 0, FloatTest},
    {"ge", {"other"}, 1, Compares<kGreaterEqual>},
    {"greaterthan", {"other"}, 1, Compares<kGreater>},
    {"gt", {"other"}, 1, Compares<kGreater>},
    {"in", {"seq"}, 1, Compares<kIn>},
    {"integer", {}, 0, IntegerTest},
    {"iterable", {}, 0, IterableTest},
    {"le", {"other"}, 1, Compares<kLessEqual>},
    {"lessthan", {"other"}, 1, Compares<kLess>},
    {"lower", {}, 0, LowerTest},
    {"lt", {"other"}, 1, Compares<kLess>},
    {"mapping", {}, 0, MappingTest},
    {"ne", {"other"}, 1, Compares<kUnequal>},
    {"none", {}, 0, NoneTest},
    {"number", {}, 0, NumberTest},
    {"odd", {}, 0, OddTest},
    {"sameas", {"other"}, 1, SameAsTest},
    {"sequence", {}, 0, SequenceTest},
    {"string", {}, 0, StringTest},
    {"test", {}, 0, TestTest},
    {"true", {}, 0, TrueTest},
    {"undefined", {}, 0, UndefinedTest},
    {"upper", {}, 0, UpperTest},
};

}  // namespace

const Builtin* FindTest(std::string_view name) {
  for (const Builtin& test : kTests) {
    if (name == test.name) return &test;
  }
  return nullptr;
}

}  // namespace pregate::jinja
