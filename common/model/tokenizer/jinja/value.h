// What a running template computes with: Python's values as far as templates use them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/limits.h"
#include "common/model/tokenizer/marked_text.h"

namespace pregate::jinja {

struct StringRep;
struct SequenceRep;
struct DictRep;
struct NamespaceRep;
struct LoopRep;
struct FunctionRep;

class Value {
 public:
  enum class Kind : uint8_t {
    kNone,
    kUndefined,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kTuple,
    kRange,
    kView,       // keys, values or items of a dict
    kGenerator,  // what filters yield: can be read once
    kDict,
    kNamespace,
    kLoop,
    kFunction,  // a macro, a global function or a method of a value
  };
  struct Undefined {
    std::shared_ptr<const std::string> what;  // "'x' is undefined"; null: a filter found nothing
  };
  using Pair = std::pair<Value, Value>;

  Value() = default;  // none
  explicit Value(bool b) : data_(b) {}
  explicit Value(int64_t number) : data_(number) {}
  explicit Value(double number) : data_(number) {}
  explicit Value(std::shared_ptr<const StringRep> rep) : data_(std::move(rep)) {}
  explicit Value(std::shared_ptr<SequenceRep> rep) : data_(std::move(rep)) {}
  explicit Value(std::shared_ptr<DictRep> rep) : data_(std::move(rep)) {}
  explicit Value(NamespaceRep* rep) : data_(rep) {}
  explicit Value(std::shared_ptr<LoopRep> rep) : data_(std::move(rep)) {}
  explicit Value(std::shared_ptr<const FunctionRep> rep) : data_(std::move(rep)) {}
  static Value MakeUndefined(std::string what);

  Kind kind() const;
  const char* KindName() const;  // as Python calls it
  bool Is(Kind kind) const { return this->kind() == kind; }
  bool IsNone() const { return Is(Kind::kNone); }
  bool IsUndefined() const { return Is(Kind::kUndefined); }
  bool IsString() const { return Is(Kind::kString); }
  bool IsDict() const { return Is(Kind::kDict); }
  bool IsSequence() const;  // list, tuple, range, view or generator
  bool IsInteger() const { return Is(Kind::kInt) || Is(Kind::kBool); }
  bool IsNumber() const { return IsInteger() || Is(Kind::kFloat); }

  // REQUIRES: the value is of that kind; integers may be bools, numbers integers.
  bool AsBool() const { return std::get<bool>(data_); }
  int64_t AsInt() const;
  double AsDouble() const;
  const MarkedText& AsText() const;
  std::string_view AsBytes() const { return AsText().bytes(); }
  bool IsMarkup() const;  // a string that |safe or |escape has made
  const std::vector<Value>& AsItems() const;
  SequenceRep& AsSequence() const { return *std::get<std::shared_ptr<SequenceRep>>(data_); }
  const std::vector<Pair>& AsPairs() const;
  NamespaceRep& AsNamespace() const { return *std::get<NamespaceRep*>(data_); }
  LoopRep& AsLoop() const { return *std::get<std::shared_ptr<LoopRep>>(data_); }
  const FunctionRep& AsFunction() const;
  const std::string* UndefinedText() const { return std::get<Undefined>(data_).what.get(); }
  bool IsSame(const Value& other) const;  // Python's `is`

  int depth() const;  // of what it holds: 0 for what holds nothing
  // The member of a dict; null: it has none of that key. REQUIRES: IsDict().
  const Value* Find(std::string_view key) const;

 private:
  std::variant<std::monostate, Undefined, bool, int64_t, double, std::shared_ptr<const StringRep>,
               std::shared_ptr<SequenceRep>, std::shared_ptr<DictRep>, NamespaceRep*,
               std::shared_ptr<LoopRep>, std::shared_ptr<const FunctionRep>>
      data_;
};

// The bounds of one run: steps, and the bytes of all values that are alive. Not thread-safe;
// outlives its values.
class Heap {
 public:
  Heap() = default;
  Heap(const Heap&) = delete;
  ~Heap();

  // ResourceExhausted when there are none left. `bytes` of text cost a step for each 64.
  absl::Status Step(int64_t steps = 1);
  absl::Status StepBytes(size_t bytes) { return Step(1 + static_cast<int64_t>(bytes / 64)); }
  absl::Status Take(int64_t bytes);  // before they are allocated
  void GiveBack(int64_t bytes) { bytes_ -= bytes; }

  absl::StatusOr<Value> String(MarkedText text, bool is_markup = false);
  absl::StatusOr<Value> String(std::string text, bool is_template) {
    return String(MarkedText(std::move(text), is_template));
  }
  absl::StatusOr<Value> Sequence(Value::Kind kind, std::vector<Value> items);
  absl::StatusOr<Value> Dict(std::vector<Value::Pair> pairs);
  absl::StatusOr<Value> Loop(std::vector<Value> items);
  absl::StatusOr<Value> Function(FunctionRep function);
  // Lives as long as the heap, so that what it holds may hold it.
  absl::StatusOr<Value> Namespace();

 private:
  int64_t steps_ = 0, bytes_ = 0;
  std::vector<std::unique_ptr<NamespaceRep>> namespaces_;
};

// ResourceExhausted for a text longer than one may be: before it is made.
absl::Status CheckTextBytes(size_t bytes);

// A string that no heap counts: constants of a parsed template.
Value ConstantString(std::string text);

// The heap's bytes that a value has taken.
class Charge {
 public:
  Charge(Heap* heap, int64_t bytes) : heap_(heap), bytes_(bytes) {}
  Charge(const Charge&) = delete;
  ~Charge() {
    if (heap_ != nullptr) heap_->GiveBack(bytes_);
  }

 private:
  Heap* const heap_;
  const int64_t bytes_;
};

struct StringRep {
  MarkedText text;
  bool is_markup;
  Charge charge;
};

struct SequenceRep {
  Value::Kind kind;
  std::vector<Value> items;
  int depth;
  bool is_read = false;  // of a generator
  Charge charge;
};

struct DictRep {
  std::vector<Value::Pair> pairs;  // by insertion
  int depth;
  Charge charge;
};

struct NamespaceRep {
  std::vector<std::pair<std::string, Value>> members;

  Value* Find(std::string_view name);
};

// `loop` within a for.
struct LoopRep {
  std::vector<Value> items;
  size_t index = 0;
  Charge charge;
};

struct Macro;    // of the interpreter
struct Builtin;  // a global function or a method

struct FunctionRep {
  const Macro* macro = nullptr;
  const Builtin* builtin = nullptr;
  Value self;  // whose method it is
};

}  // namespace pregate::jinja
