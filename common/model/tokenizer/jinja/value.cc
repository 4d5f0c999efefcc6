#include "common/model/tokenizer/jinja/value.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;

int DepthAbove(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

int DepthAbove(const std::vector<Value::Pair>& pairs) {
  int depth = 0;
  for (const auto& [key, value] : pairs) depth = std::max({depth, key.depth(), value.depth()});
  return depth + 1;
}

absl::Status CheckDepth(int depth) {
  if (depth <= kTemplateDepthMax) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("values are nested deeper than ", kTemplateDepthMax));
}

}  // namespace

Value Value::MakeUndefined(std::string what) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(what))};
  return value;
}

ValueKind Value::kind() const {
  constexpr ValueKind kKinds[] = {ValueKind::kNone, ValueKind::kUndefined, ValueKind::kBool,
                                  ValueKind::kInt,  ValueKind::kFloat,     ValueKind::kString,
                                  ValueKind::kList, ValueKind::kDict,      ValueKind::kNamespace,
                                  ValueKind::kLoop, ValueKind::kFunction};
  const ValueKind kind = kKinds[data_.index()];
  return kind == ValueKind::kList ? AsSequence().kind : kind;
}

const char* Value::KindName() const {
  constexpr const char* kNames[] = {"None",      "undefined", "bool",      "int",   "float",
                                    "str",       "list",      "tuple",     "range", "dict view",
                                    "generator", "dict",      "namespace", "loop",  "function"};
  return kNames[static_cast<int>(kind())];
}

bool Value::IsSequence() const {
  return std::holds_alternative<std::shared_ptr<SequenceRep>>(data_);
}

int64_t Value::AsInt() const {
  return Is(ValueKind::kBool) ? static_cast<int64_t>(AsBool()) : std::get<int64_t>(data_);
}

double Value::AsDouble() const {
  return Is(ValueKind::kFloat) ? std::get<double>(data_) : static_cast<double>(AsInt());
}

const MarkedText& Value::AsText() const {
  return std::get<std::shared_ptr<const StringRep>>(data_)->text;
}
bool Value::IsMarkup() const {
  return IsString() && std::get<std::shared_ptr<const StringRep>>(data_)->is_markup;
}
const std::vector<Value>& Value::AsItems() const { return AsSequence().items; }
const std::vector<Value::Pair>& Value::AsPairs() const {
  return std::get<std::shared_ptr<DictRep>>(data_)->pairs;
}
const FunctionRep& Value::AsFunction() const {
  return *std::get<std::shared_ptr<const FunctionRep>>(data_);
}

bool Value::IsSame(const Value& other) const {
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case ValueKind::kNone:
      return true;
    case ValueKind::kUndefined:
      return UndefinedText() == other.UndefinedText();
    case ValueKind::kBool:
    case ValueKind::kInt:
      return AsInt() == other.AsInt();
    case ValueKind::kFloat:
      return AsDouble() == other.AsDouble();
    case ValueKind::kString:
      return AsBytes() == other.AsBytes();
    case ValueKind::kDict:
      return &AsPairs() == &other.AsPairs();
    case ValueKind::kNamespace:
      return &AsNamespace() == &other.AsNamespace();
    case ValueKind::kLoop:
      return &AsLoop() == &other.AsLoop();
    case ValueKind::kFunction:
      return &AsFunction() == &other.AsFunction();
    default:
      return &AsSequence() == &other.AsSequence();
  }
}

int Value::depth() const {
  if (IsSequence()) return AsSequence().depth;
  if (IsDict()) return std::get<std::shared_ptr<DictRep>>(data_)->depth;
  if (Is(ValueKind::kFunction)) return AsFunction().self.depth();
  return 0;
}

const Value* Value::Find(std::string_view key) const {
  for (const auto& [name, value] : AsPairs()) {
    if (name.IsString() && name.AsBytes() == key) return &value;
  }
  return nullptr;
}

Heap::~Heap() {
  // Namespaces hold values that count on this heap, and one another.
  for (const auto& space : namespaces_) space->members.clear();
}

absl::Status Heap::Step(int64_t steps) {
  steps_ += steps;
  if (steps_ <= kTemplateStepsMax) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the template takes more than ", kTemplateStepsMax, " steps"));
}

absl::Status Heap::Take(int64_t bytes) {
  if (bytes > kTemplateBytesMax - bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the template's values take more than ", kTemplateBytesMax, " bytes"));
  }
  bytes_ += bytes;
  return absl::OkStatus();
}

absl::StatusOr<Value> Heap::String(MarkedText text, bool is_markup) {
  RETURN_IF_ERROR(CheckTextBytes(text.size()));
  RETURN_IF_ERROR(StepBytes(text.size()));
  const auto bytes = static_cast<int64_t>(sizeof(StringRep) + text.size() +
                                          text.runs().size() * sizeof(MarkedText::Run));
  RETURN_IF_ERROR(Take(bytes));
  return Value(std::shared_ptr<const StringRep>(
      new StringRep{std::move(text), is_markup, Charge(this, bytes)}));
}

absl::StatusOr<Value> Heap::Sequence(ValueKind kind, std::vector<Value> items) {
  RETURN_IF_ERROR(Step(1 + static_cast<int64_t>(items.size() / 8)));
  const auto bytes = static_cast<int64_t>(sizeof(SequenceRep) + items.size() * sizeof(Value));
  const int depth = DepthAbove(items);
  RETURN_IF_ERROR(CheckDepth(depth));
  RETURN_IF_ERROR(Take(bytes));
  return Value(std::shared_ptr<SequenceRep>(
      new SequenceRep{kind, std::move(items), depth, false, Charge(this, bytes)}));
}

absl::StatusOr<Value> Heap::Dict(std::vector<Value::Pair> pairs) {
  RETURN_IF_ERROR(Step(1 + static_cast<int64_t>(pairs.size() / 8)));
  const auto bytes = static_cast<int64_t>(sizeof(DictRep) + pairs.size() * sizeof(Value::Pair));
  const int depth = DepthAbove(pairs);
  RETURN_IF_ERROR(CheckDepth(depth));
  RETURN_IF_ERROR(Take(bytes));
  return Value(std::shared_ptr<DictRep>(new DictRep{std::move(pairs), depth, Charge(this, bytes)}));
}

absl::StatusOr<Value> Heap::Loop(std::vector<Value> items) {
  const auto bytes = static_cast<int64_t>(sizeof(LoopRep) + items.size() * sizeof(Value));
  RETURN_IF_ERROR(Take(bytes));
  return Value(std::shared_ptr<LoopRep>(new LoopRep{std::move(items), 0, Charge(this, bytes)}));
}

absl::StatusOr<Value> Heap::Function(FunctionRep function) {
  RETURN_IF_ERROR(Step());
  RETURN_IF_ERROR(CheckDepth(function.self.depth()));
  return Value(std::make_shared<const FunctionRep>(std::move(function)));
}

absl::StatusOr<Value> Heap::Namespace() {
  RETURN_IF_ERROR(Take(sizeof(NamespaceRep)));
  namespaces_.push_back(std::make_unique<NamespaceRep>());
  return Value(namespaces_.back().get());
}

absl::Status CheckTextBytes(size_t bytes) {
  if (bytes <= kTemplateOutputBytesMax) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("a text of more than ", kTemplateOutputBytesMax, " bytes"));
}

Value ConstantString(std::string text) {
  return Value(std::shared_ptr<const StringRep>(
      new StringRep{MarkedText(std::move(text), /*is_template=*/true), false, Charge(nullptr, 0)}));
}

Value* NamespaceRep::Find(std::string_view name) {
  for (auto& [key, value] : members) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace pregate::jinja
