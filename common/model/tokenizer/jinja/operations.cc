#include "common/model/tokenizer/jinja/operations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/numeric/int128.h"
#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/characters.h"
#include "common/model/tokenizer/jinja/formatting.h"
#include "common/model/tokenizer/jinja/methods.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;

absl::Status Cannot(std::string_view what, const Value& a, const Value& b) {
  if (a.IsUndefined()) return UndefinedError(a);
  if (b.IsUndefined()) return UndefinedError(b);
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(what), "\" between ", a.KindName(), " and ", b.KindName()));
}

// Keys of dicts are sets in Python.
bool AreSets(const Value& a, const Value& b) {
  return a.Is(ValueKind::kView) || b.Is(ValueKind::kView);
}
absl::Status NoSets() { return absl::UnimplementedError("sets of keys are not supported"); }

int Sign(double number) { return number < 0 ? -1 : number > 0; }

bool IsListOrTuple(const Value& value) {
  return value.Is(ValueKind::kList) || value.Is(ValueKind::kTuple);
}

absl::StatusOr<bool> SequencesEqual(Heap& heap, const std::vector<Value>& a,
                                    const std::vector<Value>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(heap, a[i], b[i]));
    if (!same) return false;
  }
  return true;
}

absl::StatusOr<bool> DictsEqual(Heap& heap, const Value& a, const Value& b) {
  if (a.AsPairs().size() != b.AsPairs().size()) return false;
  for (const auto& [key, value] : a.AsPairs()) {
    ASSIGN_OR_RETURN(const Value* other, FindItem(heap, b, key));
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool same, Equals(heap, value, *other));
    if (!same) return false;
  }
  return true;
}

absl::StatusOr<int> CompareSequences(Heap& heap, const std::vector<Value>& a,
                                     const std::vector<Value>& b) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(heap, a[i], b[i]));
    if (!same) return Compare(heap, a[i], b[i]);
  }
  return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

absl::StatusOr<Value> WholeNumber(absl::int128 number) {
  if (number < INT64_MIN || number > INT64_MAX) {
    return absl::InvalidArgumentError("an integer is out of range");
  }
  return Value(static_cast<int64_t>(number));
}

absl::StatusOr<Value> Power(int64_t base, int64_t exponent) {
  absl::int128 power = 1;
  for (int64_t i = 0; i < exponent && base != 0 && base != 1; ++i) {
    if (base == -1) return Value(int64_t{exponent % 2 == 0 ? 1 : -1});
    power *= base;
    RETURN_IF_ERROR(WholeNumber(power).status());
  }
  if (base == 0 && exponent > 0) power = 0;
  return WholeNumber(power);
}

absl::StatusOr<Value> CalculateInts(std::string_view sign, int64_t a, int64_t b) {
  const absl::int128 x = a, y = b;
  if (sign == "+") return WholeNumber(x + y);
  if (sign == "-") return WholeNumber(x - y);
  if (sign == "*") return WholeNumber(x * y);
  if (sign == "**") return Power(a, b);
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  const absl::int128 quotient = x / y - ((x % y != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
  return WholeNumber(sign == "//" ? quotient : x - quotient * y);
}

absl::StatusOr<Value> FloatPower(double base, double exponent) {
  const double power = std::pow(base, exponent);
  if (std::isfinite(power) || !std::isfinite(base) || !std::isfinite(exponent)) return Value(power);
  return absl::InvalidArgumentError("the result of ** is out of range");
}

absl::StatusOr<Value> CalculateFloats(std::string_view sign, double a, double b) {
  if (sign == "+") return Value(a + b);
  if (sign == "-") return Value(a - b);
  if (sign == "*") return Value(a * b);
  if (sign == "**") return FloatPower(a, b);
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (sign == "/") return Value(a / b);
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  if (sign == "%") return Value(rest != 0 ? rest : std::copysign(0.0, b));
  return Value(std::floor((a - rest) / b + 0.5));
}

absl::StatusOr<Value> CalculateNumbers(std::string_view sign, const Value& a, const Value& b) {
  const bool whole =
      a.IsInteger() && b.IsInteger() && sign != "/" && !(sign == "**" && b.AsInt() < 0);
  return whole ? CalculateInts(sign, a.AsInt(), b.AsInt())
               : CalculateFloats(sign, a.AsDouble(), b.AsDouble());
}

absl::StatusOr<Value> RepeatText(Heap& heap, const Value& value, int64_t times) {
  const MarkedText& text = value.AsText();
  MarkedText out;
  if (times <= 0 || text.empty()) return heap.String(out);
  if (times > static_cast<int64_t>(kTemplateOutputBytesMax)) {
    return CheckTextBytes(kTemplateOutputBytesMax + 1);
  }
  RETURN_IF_ERROR(CheckTextBytes(text.size() * times));
  for (int64_t i = 0; i < times; ++i) out.Append(text);
  return heap.String(std::move(out), value.IsMarkup());
}

absl::StatusOr<Value> RepeatItems(Heap& heap, const Value& value, int64_t times) {
  const std::vector<Value>& items = value.AsItems();
  const absl::int128 size = absl::int128(items.size()) * std::max<int64_t>(times, 0);
  if (size > kTemplateRangeMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a list of more than ", kTemplateRangeMax, " repeated items"));
  }
  std::vector<Value> out;
  while (absl::int128(out.size()) < size) out.insert(out.end(), items.begin(), items.end());
  return heap.Sequence(value.kind(), std::move(out));
}

absl::StatusOr<Value> AddTexts(Heap& heap, const Value& a, const Value& b) {
  const bool is_markup = a.IsMarkup() || b.IsMarkup();
  MarkedText out = is_markup && !a.IsMarkup() ? Escaped(a.AsText()) : a.AsText();
  out.Append(is_markup && !b.IsMarkup() ? Escaped(b.AsText()) : b.AsText());
  return heap.String(std::move(out), is_markup);
}

absl::StatusOr<Value> AddItems(Heap& heap, const Value& a, const Value& b) {
  std::vector<Value> out = a.AsItems();
  out.insert(out.end(), b.AsItems().begin(), b.AsItems().end());
  return heap.Sequence(a.kind(), std::move(out));
}

// The place of an item that counts from the end where it is negative; nothing: there is none.
std::optional<size_t> Place(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  return static_cast<size_t>(index);
}

std::string Shown(const Value& key) {
  if (key.IsString()) return absl::CHexEscape(std::string(key.AsBytes().substr(0, 64)));
  return key.IsInteger() ? absl::StrCat(key.AsInt()) : key.KindName();
}

Value Nothing(const Value& value, const std::string& name) {
  return Value::MakeUndefined(
      absl::StrCat("\"", value.KindName(), "\" has no attribute \"", name, "\""));
}

absl::StatusOr<Value> LoopAttribute(Heap& heap, const Value& value, std::string_view name) {
  const LoopRep& loop = value.AsLoop();
  const auto index = static_cast<int64_t>(loop.index),
             size = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(size - index);
  if (name == "revindex0") return Value(size - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem" && index > 0) return loop.items[loop.index - 1];
  if (name == "nextitem" && index + 1 < size) return loop.items[loop.index + 1];
  if (name == "previtem") return Value::MakeUndefined("there is no previous item");
  if (name == "nextitem") return Value::MakeUndefined("there is no next item");
  return Method(heap, value, name);
}

absl::StatusOr<std::optional<Value>> ItemAt(Heap& heap, const Value& value, const Value& key) {
  if (value.IsDict()) {
    if (!IsHashable(key)) return std::nullopt;
    ASSIGN_OR_RETURN(const Value* found, FindItem(heap, value, key));
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!key.IsInteger()) return std::nullopt;
  if (value.IsString()) {
    const std::vector<size_t> offsets = CharacterOffsets(value.AsBytes());
    RETURN_IF_ERROR(heap.StepBytes(value.AsBytes().size()));
    const auto place = Place(key.AsInt(), offsets.size() - 1);
    if (!place) return std::nullopt;
    ASSIGN_OR_RETURN(Value item, heap.String(SubText(value.AsText(), offsets, *place, *place + 1)));
    return std::optional(std::move(item));
  }
  if (!IsListOrTuple(value) && !value.Is(ValueKind::kRange)) return std::nullopt;
  const auto place = Place(key.AsInt(), value.AsItems().size());
  return place ? std::optional(value.AsItems()[*place]) : std::nullopt;
}

// Where a slice begins or ends.
absl::StatusOr<int64_t> SliceBound(const Value& value, int64_t fallback, int64_t min, int64_t max,
                                   int64_t size) {
  if (value.IsNone()) return fallback;
  if (!value.IsInteger()) return absl::InvalidArgumentError("a slice's bounds are no integers");
  const int64_t index = value.AsInt();
  return std::clamp(index < 0 ? index + size : index, min, max);
}

absl::StatusOr<std::vector<size_t>> SlicePlaces(int64_t size, const Value& start, const Value& stop,
                                                const Value& step) {
  ASSIGN_OR_RETURN(const int64_t by, SliceBound(step, 1, INT64_MIN / 4, INT64_MAX / 4, 0));
  if (by == 0) return absl::InvalidArgumentError("a slice's step is 0");
  const int64_t min = by > 0 ? 0 : -1, max = by > 0 ? size : size - 1;
  ASSIGN_OR_RETURN(const int64_t begin, SliceBound(start, by > 0 ? min : max, min, max, size));
  ASSIGN_OR_RETURN(const int64_t end, SliceBound(stop, by > 0 ? max : min, min, max, size));
  std::vector<size_t> places;
  for (int64_t i = begin; by > 0 ? i < end : i > end; i += by) {
    places.push_back(static_cast<size_t>(i));
    if (by > size || by < -size) break;
  }
  return places;
}

absl::StatusOr<Value> SliceText(Heap& heap, const Value& value, const Value& start,
                                const Value& stop, const Value& step) {
  RETURN_IF_ERROR(heap.StepBytes(value.AsBytes().size()));
  const std::vector<size_t> offsets = CharacterOffsets(value.AsBytes());
  ASSIGN_OR_RETURN(const auto places,
                   SlicePlaces(static_cast<int64_t>(offsets.size()) - 1, start, stop, step));
  MarkedText out;
  for (const size_t place : places) {
    out.AppendPart(value.AsText(), offsets[place], offsets[place + 1] - offsets[place]);
  }
  return heap.String(std::move(out), value.IsMarkup());
}

}  // namespace

absl::Status UndefinedError(const Value& value) {
  const std::string* what = value.UndefinedText();
  return absl::InvalidArgumentError(what == nullptr ? "an undefined value is used" : *what);
}

bool IsHashable(const Value& value) {
  if (value.Is(ValueKind::kTuple)) {
    return std::all_of(value.AsItems().begin(), value.AsItems().end(), IsHashable);
  }
  return !value.IsDict() && !value.Is(ValueKind::kList) && !value.Is(ValueKind::kView);
}

absl::StatusOr<const Value*> FindItem(Heap& heap, const Value& dict, const Value& key) {
  if (!IsHashable(key)) {
    return absl::InvalidArgumentError(absl::StrCat("a key of a dict is a ", key.KindName()));
  }
  RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(dict.AsPairs().size() / 16)));
  if (key.IsString()) return dict.Find(key.AsBytes());
  for (const auto& [name, value] : dict.AsPairs()) {
    ASSIGN_OR_RETURN(const bool same, Equals(heap, name, key));
    if (same) return &value;
  }
  return nullptr;
}

MarkedText SubText(const MarkedText& text, const std::vector<size_t>& offsets, size_t begin,
                   size_t end) {
  return text.Part(offsets[begin], offsets[end] - offsets[begin]);
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case ValueKind::kNone:
    case ValueKind::kUndefined:
      return false;
    case ValueKind::kBool:
    case ValueKind::kInt:
      return value.AsInt() != 0;
    case ValueKind::kFloat:
      return value.AsDouble() != 0;
    case ValueKind::kString:
      return !value.AsBytes().empty();
    case ValueKind::kList:
    case ValueKind::kTuple:
    case ValueKind::kRange:
    case ValueKind::kView:
      return !value.AsItems().empty();
    case ValueKind::kDict:
      return !value.AsPairs().empty();
    case ValueKind::kLoop:
      return !value.AsLoop().items.empty();
    default:
      return true;
  }
}

absl::StatusOr<bool> Equals(Heap& heap, const Value& a, const Value& b) {
  RETURN_IF_ERROR(heap.Step());
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsInteger() && b.IsInteger() ? a.AsInt() == b.AsInt() : a.AsDouble() == b.AsDouble();
  }
  if (a.kind() != b.kind()) return false;
  if (a.IsString()) {
    RETURN_IF_ERROR(heap.StepBytes(std::min(a.AsBytes().size(), b.AsBytes().size())));
    return a.AsBytes() == b.AsBytes();
  }
  if (a.IsUndefined()) return true;
  if (AreSets(a, b)) return NoSets();
  if (a.IsDict()) return DictsEqual(heap, a, b);
  if (IsListOrTuple(a) || a.Is(ValueKind::kRange))
    return SequencesEqual(heap, a.AsItems(), b.AsItems());
  return a.IsSame(b);
}

absl::StatusOr<int> Compare(Heap& heap, const Value& a, const Value& b) {
  RETURN_IF_ERROR(heap.Step());
  if (a.IsInteger() && b.IsInteger()) {
    return a.AsInt() == b.AsInt() ? 0 : a.AsInt() < b.AsInt() ? -1 : 1;
  }
  if (a.IsNumber() && b.IsNumber()) return Sign(a.AsDouble() - b.AsDouble());
  if (a.IsString() && b.IsString()) {
    RETURN_IF_ERROR(heap.StepBytes(std::min(a.AsBytes().size(), b.AsBytes().size())));
    return Sign(a.AsBytes().compare(b.AsBytes()));
  }
  if (IsListOrTuple(a) && a.kind() == b.kind()) {
    return CompareSequences(heap, a.AsItems(), b.AsItems());
  }
  if (AreSets(a, b)) return NoSets();
  return Cannot("<", a, b);
}

absl::StatusOr<bool> Holds(Heap& heap, std::string_view sign, const Value& a, const Value& b) {
  if (sign == "==" || sign == "!=") {
    ASSIGN_OR_RETURN(const bool same, Equals(heap, a, b));
    return same == (sign == "==");
  }
  if (sign == "in" || sign == "not in") {
    ASSIGN_OR_RETURN(const bool found, Contains(heap, b, a));
    return found == (sign == "in");
  }
  ASSIGN_OR_RETURN(const int order, Compare(heap, a, b));
  if (sign == "<") return order < 0;
  if (sign == "<=") return order <= 0;
  return sign == ">" ? order > 0 : order >= 0;
}

absl::StatusOr<bool> Contains(Heap& heap, const Value& container, const Value& item) {
  if (container.IsString()) {
    if (!item.IsString()) return Cannot("in", item, container);
    const std::string_view text = container.AsBytes(), part = item.AsBytes();
    RETURN_IF_ERROR(heap.StepBytes(text.size() + part.size()));
    return part.empty() || memmem(text.data(), text.size(), part.data(), part.size()) != nullptr;
  }
  if (container.IsDict()) {
    ASSIGN_OR_RETURN(const Value* found, FindItem(heap, container, item));
    return found != nullptr;
  }
  if (!container.IsSequence() && !container.IsUndefined() && !container.Is(ValueKind::kLoop)) {
    return Cannot("in", item, container);
  }
  ASSIGN_OR_RETURN(const auto items, Iterate(heap, container));
  for (const Value& other : items) {
    ASSIGN_OR_RETURN(const bool same, Equals(heap, item, other));
    if (same) return true;
  }
  return false;
}

absl::StatusOr<Value> Calculate(Heap& heap, std::string_view sign, const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) return CalculateNumbers(sign, a, b);
  if (sign == "%" && a.IsString()) return FormatPercent(heap, a.AsText(), b);
  if (sign == "+" && a.IsString() && b.IsString()) return AddTexts(heap, a, b);
  if (sign == "+" && IsListOrTuple(a) && a.kind() == b.kind()) return AddItems(heap, a, b);
  if (sign == "*" && b.IsInteger() && a.IsString()) return RepeatText(heap, a, b.AsInt());
  if (sign == "*" && a.IsInteger() && b.IsString()) return RepeatText(heap, b, a.AsInt());
  if (sign == "*" && b.IsInteger() && IsListOrTuple(a)) return RepeatItems(heap, a, b.AsInt());
  if (sign == "*" && a.IsInteger() && IsListOrTuple(b)) return RepeatItems(heap, b, a.AsInt());
  if (sign == "-" && AreSets(a, b)) return NoSets();
  return Cannot(sign, a, b);
}

absl::StatusOr<Value> Signed(std::string_view sign, const Value& value) {
  if (value.IsUndefined()) return UndefinedError(value);
  if (!value.IsNumber()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", std::string(sign), "\" before ", value.KindName()));
  }
  if (value.Is(ValueKind::kFloat)) return Value(sign == "-" ? -value.AsDouble() : value.AsDouble());
  return WholeNumber(sign == "-" ? -absl::int128(value.AsInt()) : absl::int128(value.AsInt()));
}

absl::StatusOr<std::vector<Value>> Iterate(Heap& heap, const Value& value) {
  std::vector<Value> items;
  if (value.IsUndefined()) return items;
  if (value.Is(ValueKind::kGenerator)) {
    SequenceRep& generator = value.AsSequence();
    if (!generator.is_read) items = generator.items;
    generator.is_read = true;
  } else if (value.IsSequence()) {
    items = value.AsItems();
  } else if (value.IsDict()) {
    for (const auto& [key, item] : value.AsPairs()) items.push_back(key);
  } else if (value.IsString()) {
    const std::vector<size_t> offsets = CharacterOffsets(value.AsBytes());
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      ASSIGN_OR_RETURN(Value item, heap.String(SubText(value.AsText(), offsets, i, i + 1)));
      items.push_back(std::move(item));
    }
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", value.KindName(), "\" cannot be iterated over"));
  }
  RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(items.size() / 8)));
  return items;
}

absl::StatusOr<int64_t> Length(const Value& value) {
  if (value.IsUndefined()) return 0;
  if (value.IsString()) return static_cast<int64_t>(CountCharacters(value.AsBytes()));
  if (value.IsDict()) return static_cast<int64_t>(value.AsPairs().size());
  if (value.Is(ValueKind::kLoop)) return static_cast<int64_t>(value.AsLoop().items.size());
  if (value.IsSequence() && !value.Is(ValueKind::kGenerator)) {
    return static_cast<int64_t>(value.AsItems().size());
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", value.KindName(), "\" has no length"));
}

absl::StatusOr<Value> Attribute(Heap& heap, const Value& value, std::string_view name) {
  if (value.IsUndefined()) return UndefinedError(value);
  if (value.Is(ValueKind::kLoop)) return LoopAttribute(heap, value, name);
  if (value.Is(ValueKind::kNamespace)) {
    NamespaceRep& space = value.AsNamespace();
    RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(space.members.size() / 16)));
    const Value* found = space.Find(name);
    return found != nullptr ? *found
                            : Nothing(value, absl::CHexEscape(std::string(name.substr(0, 64))));
  }
  ASSIGN_OR_RETURN(Value method, Method(heap, value, name));
  if (!method.IsUndefined()) return method;
  if (!value.IsDict()) return method;
  RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(value.AsPairs().size() / 16)));
  const Value* found = value.Find(name);
  return found != nullptr ? *found : method;
}

absl::StatusOr<Value> Item(Heap& heap, const Value& value, const Value& key) {
  if (value.IsUndefined()) return UndefinedError(value);
  ASSIGN_OR_RETURN(const std::optional<Value> item, ItemAt(heap, value, key));
  if (item) return *item;
  if (key.IsString()) return Attribute(heap, value, key.AsBytes());
  return Nothing(value, Shown(key));
}

absl::StatusOr<Value> Slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                            const Value& step) {
  if (value.IsUndefined()) return UndefinedError(value);
  for (const Value* bound : {&start, &stop, &step}) {
    if (bound->IsUndefined()) return UndefinedError(*bound);
  }
  if (value.IsString()) return SliceText(heap, value, start, stop, step);
  if (!IsListOrTuple(value) && !value.Is(ValueKind::kRange)) {
    return absl::InvalidArgumentError(absl::StrCat("a slice of ", value.KindName()));
  }
  const std::vector<Value>& items = value.AsItems();
  ASSIGN_OR_RETURN(const auto places,
                   SlicePlaces(static_cast<int64_t>(items.size()), start, stop, step));
  std::vector<Value> out;
  for (const size_t place : places) out.push_back(items[place]);
  return heap.Sequence(value.kind(), std::move(out));
}

}  // namespace pregate::jinja
