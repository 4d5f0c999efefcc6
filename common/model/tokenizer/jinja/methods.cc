#include "common/model/tokenizer/jinja/methods.h"

#include <algorithm>
#include <cstring>

#include "absl/functional/function_ref.h"
#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/characters.h"
#include "common/model/tokenizer/jinja/formatting.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/text_operations.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;
using Result = absl::StatusOr<Value>;

absl::StatusOr<std::string_view> BytesArgument(const Bound& a, size_t i) {
  if (a[i].IsUndefined()) return UndefinedError(a[i]);
  if (a[i].IsString()) return a[i].AsBytes();
  return absl::InvalidArgumentError(
      absl::StrCat("an argument is ", a[i].KindName(), ", expected a string"));
}

absl::StatusOr<std::optional<std::string_view>> MaybeBytes(const Bound& a, size_t i) {
  if (!a.Has(i) || a[i].IsNone()) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string_view bytes, BytesArgument(a, i));
  return std::optional(bytes);
}

Result StringList(Heap& heap, std::vector<MarkedText> texts) {
  std::vector<Value> items;
  for (MarkedText& text : texts) {
    ASSIGN_OR_RETURN(Value item, heap.String(std::move(text)));
    items.push_back(std::move(item));
  }
  return heap.Sequence(ValueKind::kList, std::move(items));
}

Result StripSide(Runtime& run, const Value& self, const Bound& a, Side side) {
  ASSIGN_OR_RETURN(const auto characters, MaybeBytes(a, 0));
  // Each character is looked for among `characters`.
  RETURN_IF_ERROR(
      run.heap.StepBytes(self.AsBytes().size() * (characters ? characters->size() : 1)));
  return run.heap.String(Strip(self.AsText(), characters, side), self.IsMarkup());
}
Result StripBoth(Runtime& run, const Value& self, const Bound& a) {
  return StripSide(run, self, a, Side::kBoth);
}
Result StripLeft(Runtime& run, const Value& self, const Bound& a) {
  return StripSide(run, self, a, Side::kLeft);
}
Result StripRight(Runtime& run, const Value& self, const Bound& a) {
  return StripSide(run, self, a, Side::kRight);
}

Result SplitFrom(Runtime& run, const Value& self, const Bound& a, bool from_right) {
  ASSIGN_OR_RETURN(const auto separator, MaybeBytes(a, 0));
  ASSIGN_OR_RETURN(const int64_t splits, a.Int(1, -1));
  if (separator && separator->empty()) return absl::InvalidArgumentError("split(\"\")");
  RETURN_IF_ERROR(run.heap.StepBytes(self.AsBytes().size()));
  return StringList(run.heap, Split(self.AsText(), separator, splits, from_right));
}
Result SplitLeft(Runtime& run, const Value& self, const Bound& a) {
  return SplitFrom(run, self, a, false);
}
Result SplitRight(Runtime& run, const Value& self, const Bound& a) {
  return SplitFrom(run, self, a, true);
}
Result LinesMethod(Runtime& run, const Value& self, const Bound& a) {
  return StringList(run.heap, SplitLines(self.AsText(), a.IsTrue(0, false)));
}

Result PartitionAt(Runtime& run, const Value& self, const Bound& a, bool from_right) {
  ASSIGN_OR_RETURN(const std::string_view separator, BytesArgument(a, 0));
  if (separator.empty()) return absl::InvalidArgumentError("partition(\"\")");
  std::vector<MarkedText> parts = Split(self.AsText(), separator, 1, from_right);
  if (parts.size() == 2) {
    parts.insert(parts.begin() + 1, self.AsText().Part(parts[0].size(), separator.size()));
  } else {
    parts.insert(from_right ? parts.begin() : parts.end(), 2, MarkedText());
  }
  ASSIGN_OR_RETURN(const Value list, StringList(run.heap, std::move(parts)));
  return run.heap.Sequence(ValueKind::kTuple, list.AsItems());
}
Result Partition(Runtime& run, const Value& self, const Bound& a) {
  return PartitionAt(run, self, a, false);
}
Result PartitionRight(Runtime& run, const Value& self, const Bound& a) {
  return PartitionAt(run, self, a, true);
}

// Whether any of one text or a tuple of them passes.
absl::StatusOr<bool> AnyOf(const Bound& a, absl::FunctionRef<bool(std::string_view)> passes) {
  if (a.Has(1)) return absl::UnimplementedError("startswith() and endswith() with a place");
  if (!a[0].Is(ValueKind::kTuple)) {
    ASSIGN_OR_RETURN(const std::string_view text, BytesArgument(a, 0));
    return passes(text);
  }
  for (const Value& item : a[0].AsItems()) {
    if (!item.IsString()) return absl::InvalidArgumentError("a tuple holds no strings");
    if (passes(item.AsBytes())) return true;
  }
  return false;
}
Result StartsWith(Runtime&, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const bool yes, AnyOf(a, [&](std::string_view text) {
                     return self.AsBytes().starts_with(text);
                   }));
  return Value(yes);
}
Result EndsWith(Runtime&, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const bool yes,
                   AnyOf(a, [&](std::string_view text) { return self.AsBytes().ends_with(text); }));
  return Value(yes);
}

Result RemovePrefix(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const std::string_view prefix, BytesArgument(a, 0));
  if (!self.AsBytes().starts_with(prefix)) return self;
  return run.heap.String(self.AsText().Part(prefix.size(), self.AsBytes().size() - prefix.size()));
}
Result RemoveSuffix(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const std::string_view suffix, BytesArgument(a, 0));
  if (!self.AsBytes().ends_with(suffix)) return self;
  return run.heap.String(self.AsText().Part(0, self.AsBytes().size() - suffix.size()));
}

// Through all of a text, character by character, with look-ups.
Result ByCharacter(Runtime& run, const Value& self, MarkedText (*change)(const MarkedText&)) {
  RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(self.AsBytes().size())));
  return run.heap.String(change(self.AsText()), self.IsMarkup());
}
Result ToUpperCase(Runtime& run, const Value& self, const Bound&) {
  return run.heap.String(Upper(self.AsText()), self.IsMarkup());
}
Result ToLowerCase(Runtime& run, const Value& self, const Bound&) {
  return run.heap.String(Lower(self.AsText()), self.IsMarkup());
}
Result TitleMethod(Runtime& run, const Value& self, const Bound&) {
  return ByCharacter(run, self, Titled);
}
Result Capitalize(Runtime& run, const Value& self, const Bound&) {
  return run.heap.String(Capitalized(self.AsText()), self.IsMarkup());
}

Result ReplaceIn(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const std::string_view from, BytesArgument(a, 0));
  RETURN_IF_ERROR(BytesArgument(a, 1).status());
  ASSIGN_OR_RETURN(const int64_t count, a.Int(2, -1));
  RETURN_IF_ERROR(run.heap.StepBytes(self.AsBytes().size()));
  ASSIGN_OR_RETURN(MarkedText out, Replace(self.AsText(), from, a[1].AsText(), count));
  return run.heap.String(std::move(out));
}

Result JoinMethod(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const auto items, Iterate(run.heap, a[0]));
  MarkedText out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].IsString()) {
      return absl::InvalidArgumentError(
          absl::StrCat("join() of ", items[i].KindName(), ", expected strings"));
    }
    if (i > 0) out.Append(self.AsText());
    out.Append(items[i].AsText());
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
  }
  return run.heap.String(std::move(out));
}

// The character at which `part` stands, -1: nowhere.
absl::StatusOr<int64_t> FindPart(Runtime& run, const Value& self, const Bound& a, bool last) {
  if (a.Has(1)) return absl::UnimplementedError("find() from a place on");
  ASSIGN_OR_RETURN(const std::string_view part, BytesArgument(a, 0));
  const std::string_view text = self.AsBytes();
  RETURN_IF_ERROR(run.heap.StepBytes(text.size()));
  if (part.empty()) return last ? static_cast<int64_t>(CountCharacters(text)) : 0;
  const auto parts = Split(self.AsText(), part, 1, last);
  if (parts.size() == 1) return -1;
  return static_cast<int64_t>(CountCharacters(parts[0].bytes()));
}
Result FindFirst(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const int64_t at, FindPart(run, self, a, false));
  return Value(at);
}
Result FindLast(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const int64_t at, FindPart(run, self, a, true));
  return Value(at);
}
Result IndexOfPart(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const int64_t at, FindPart(run, self, a, false));
  if (at < 0) return absl::InvalidArgumentError("index() finds nothing");
  return Value(at);
}
Result CountParts(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const std::string_view part, BytesArgument(a, 0));
  RETURN_IF_ERROR(run.heap.StepBytes(self.AsBytes().size()));
  if (part.empty()) return Value(static_cast<int64_t>(CountCharacters(self.AsBytes()) + 1));
  return Value(static_cast<int64_t>(Split(self.AsText(), part, -1, false).size() - 1));
}

Result FormatMethod(Runtime& run, const Value& self, const Bound& a) {
  return FormatBraces(run.heap, self.AsText(), a.all);
}

using CharacterTest = bool (*)(std::string_view);
Result AllAre(Runtime& run, const Value& self, CharacterTest test) {
  const std::string_view text = self.AsBytes();
  RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(text.size())));
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) {
    if (!test(text.substr(i, CharacterBytes(text, i)))) return Value(false);
  }
  return Value(!text.empty());
}
bool IsSpaceCharacter(std::string_view c) { return IsSpace(CodePointAt(c, 0)); }
bool IsLetterOrDigit(std::string_view c) { return IsLetter(c) || IsDigit(c); }
Result AreDigits(Runtime& run, const Value& self, const Bound&) {
  return AllAre(run, self, IsDigit);
}
Result AreLetters(Runtime& run, const Value& self, const Bound&) {
  return AllAre(run, self, IsLetter);
}
Result AreLettersOrDigits(Runtime& run, const Value& self, const Bound&) {
  return AllAre(run, self, IsLetterOrDigit);
}
Result AreSpaces(Runtime& run, const Value& self, const Bound&) {
  return AllAre(run, self, IsSpaceCharacter);
}

// Some letter has the case, and none has the other.
Result HasCase(Runtime& run, const Value& self, CharacterTest wanted, CharacterTest other) {
  const std::string_view text = self.AsBytes();
  RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(text.size())));
  bool found = false;
  for (size_t i = 0; i < text.size(); i += CharacterBytes(text, i)) {
    const std::string_view c = text.substr(i, CharacterBytes(text, i));
    if (other(c)) return Value(false);
    found |= wanted(c);
  }
  return Value(found);
}
Result IsUpper(Runtime& run, const Value& self, const Bound&) {
  return HasCase(run, self, IsUpperLetter, IsLowerLetter);
}
Result IsLower(Runtime& run, const Value& self, const Bound&) {
  return HasCase(run, self, IsLowerLetter, IsUpperLetter);
}

Result GetMethod(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Value* found, FindItem(run.heap, self, a[0]));
  if (found != nullptr) return *found;
  return a.Has(1) ? a[1] : Value();
}
Result KeysMethod(Runtime& run, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.AsPairs()) items.push_back(key);
  return run.heap.Sequence(ValueKind::kView, std::move(items));
}
Result ValuesMethod(Runtime& run, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.AsPairs()) items.push_back(value);
  return run.heap.Sequence(ValueKind::kView, std::move(items));
}
Result ItemsMethod(Runtime& run, const Value& self, const Bound&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.AsPairs()) {
    ASSIGN_OR_RETURN(Value pair, run.heap.Sequence(ValueKind::kTuple, {key, value}));
    items.push_back(std::move(pair));
  }
  return run.heap.Sequence(ValueKind::kView, std::move(items));
}
Result CopyMethod(Runtime&, const Value& self, const Bound&) { return self; }

Result IndexOf(Runtime& run, const Value& self, const Bound& a) {
  for (size_t i = 0; i < self.AsItems().size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(run.heap, self.AsItems()[i], a[0]));
    if (same) return Value(static_cast<int64_t>(i));
  }
  return absl::InvalidArgumentError("index() finds nothing");
}
Result CountOf(Runtime& run, const Value& self, const Bound& a) {
  int64_t count = 0;
  for (const Value& item : self.AsItems()) {
    ASSIGN_OR_RETURN(const bool same, Equals(run.heap, item, a[0]));
    count += same;
  }
  return Value(count);
}

Result CycleMethod(Runtime&, const Value& self, const Bound& a) {
  if (a.all.positional.empty()) return absl::InvalidArgumentError("cycle() needs items");
  return a.all.positional[self.AsLoop().index % a.all.positional.size()];
}

constexpr Builtin kTextMethods[] = {
    {"capitalize", {}, 0, Capitalize},
    {"count", {"sub"}, 1, CountParts},
    {"endswith", {"suffix", "start", "end"}, 1, EndsWith},
    {"find", {"sub", "start", "end"}, 1, FindFirst},
    {"format", {}, kAny, FormatMethod},
    {"index", {"sub", "start", "end"}, 1, IndexOfPart},
    {"isalnum", {}, 0, AreLettersOrDigits},
    {"isalpha", {}, 0, AreLetters},
    {"isdecimal", {}, 0, AreDigits},
    {"isdigit", {}, 0, AreDigits},
    {"islower", {}, 0, IsLower},
    {"isspace", {}, 0, AreSpaces},
    {"isupper", {}, 0, IsUpper},
    {"join", {"iterable"}, 1, JoinMethod},
    {"lower", {}, 0, ToLowerCase},
    {"lstrip", {"chars"}, 0, StripLeft},
    {"partition", {"sep"}, 1, Partition},
    {"removeprefix", {"prefix"}, 1, RemovePrefix},
    {"removesuffix", {"suffix"}, 1, RemoveSuffix},
    {"replace", {"old", "new", "count"}, 2, ReplaceIn},
    {"rfind", {"sub", "start", "end"}, 1, FindLast},
    {"rpartition", {"sep"}, 1, PartitionRight},
    {"rsplit", {"sep", "maxsplit"}, 0, SplitRight},
    {"rstrip", {"chars"}, 0, StripRight},
    {"split", {"sep", "maxsplit"}, 0, SplitLeft},
    {"splitlines", {"keepends"}, 0, LinesMethod},
    {"startswith", {"prefix", "start", "end"}, 1, StartsWith},
    {"strip", {"chars"}, 0, StripBoth},
    {"title", {}, 0, TitleMethod},
    {"upper", {}, 0, ToUpperCase},
};
constexpr Builtin kDictMethods[] = {
    {"copy", {}, 0, CopyMethod},     {"get", {"key", "default"}, 1, GetMethod},
    {"items", {}, 0, ItemsMethod},   {"keys", {}, 0, KeysMethod},
    {"values", {}, 0, ValuesMethod},
};
constexpr Builtin kListMethods[] = {{"copy", {}, 0, CopyMethod},
                                    {"count", {"value"}, 1, CountOf},
                                    {"index", {"value"}, 1, IndexOf}};
constexpr Builtin kTupleMethods[] = {{"count", {"value"}, 1, CountOf},
                                     {"index", {"value"}, 1, IndexOf}};
constexpr Builtin kLoopMethods[] = {{"cycle", {}, kAny, CycleMethod}};

// What jinja2's immutable sandbox refuses when it is called.
constexpr std::string_view kListChanges[] = {"append", "clear",  "extend",  "insert",
                                             "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};

const Builtin* FindIn(absl::Span<const Builtin> table, std::string_view name) {
  for (const Builtin& builtin : table) {
    if (name == builtin.name) return &builtin;
  }
  return nullptr;
}

const Builtin* FindMethod(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case ValueKind::kString:
      return FindIn(kTextMethods, name);
    case ValueKind::kDict:
      return FindIn(kDictMethods, name);
    case ValueKind::kList:
      return FindIn(kListMethods, name);
    case ValueKind::kTuple:
    case ValueKind::kRange:
      return FindIn(kTupleMethods, name);
    case ValueKind::kLoop:
      return FindIn(kLoopMethods, name);
    default:
      return nullptr;
  }
}

bool HasName(absl::Span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool WouldChange(const Value& value, std::string_view name) {
  return (value.Is(ValueKind::kList) && HasName(kListChanges, name)) ||
         (value.IsDict() && HasName(kDictChanges, name));
}

}  // namespace

absl::StatusOr<Value> Method(Heap& heap, const Value& value, std::string_view name) {
  if (const Builtin* builtin = FindMethod(value, name)) {
    return heap.Function({.builtin = builtin, .self = value});
  }
  const std::string shown = absl::CHexEscape(std::string(name.substr(0, 64)));
  if (WouldChange(value, name)) {
    return Value::MakeUndefined(absl::StrCat("\"", shown, "\" would change a ", value.KindName()));
  }
  return Value::MakeUndefined(
      absl::StrCat("\"", value.KindName(), "\" has no attribute \"", shown, "\""));
}

bool IsKnownMethod(std::string_view name) {
  return FindIn(kTextMethods, name) != nullptr || FindIn(kDictMethods, name) != nullptr ||
         FindIn(kListMethods, name) != nullptr || FindIn(kLoopMethods, name) != nullptr ||
         HasName(kListChanges, name) || HasName(kDictChanges, name);
}

}  // namespace pregate::jinja
