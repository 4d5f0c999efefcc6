// Filters, as jinja2 3.1 and transformers define them.
#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/characters.h"
#include "common/model/tokenizer/jinja/formatting.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/printing.h"
#include "common/model/tokenizer/jinja/text_operations.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;
using Result = absl::StatusOr<Value>;
using Values = std::vector<Value>;

// Texts.

Result TrimFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  if (!a.Has(0) || a[0].IsNone()) {
    RETURN_IF_ERROR(run.heap.StepBytes(text.size()));
    return run.heap.String(Strip(text, std::nullopt, Side::kBoth), self.IsMarkup());
  }
  if (!a[0].IsString()) return absl::InvalidArgumentError("trim() of no characters");
  RETURN_IF_ERROR(run.heap.StepBytes(text.size() * (1 + a[0].AsBytes().size())));
  return run.heap.String(Strip(text, a[0].AsBytes(), Side::kBoth));
}

Result UpperFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  return run.heap.String(Upper(text));
}
Result LowerFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  return run.heap.String(Lower(text));
}
Result CapitalizeFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  return run.heap.String(Capitalized(text));
}

bool BreaksWords(char32_t c) {
  return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

// The first character of each word upper, the others lower; not what str.title() does.
Result TitleFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(text.size())));
  const std::string_view bytes = text.bytes();
  MarkedText out;
  bool begins = true;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = CharacterBytes(bytes, i);
    const MarkedText character = text.Part(i, length);
    out.Append(begins ? Upper(character) : Lower(character));
    begins = BreaksWords(CodePointAt(bytes, i));
    i += length;
  }
  return run.heap.String(std::move(out));
}

Result ReplaceFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  ASSIGN_OR_RETURN(const MarkedText from, Str(run.heap, a[0]));
  ASSIGN_OR_RETURN(const MarkedText to, Str(run.heap, a[1]));
  ASSIGN_OR_RETURN(const int64_t count, a.Int(2, -1));
  RETURN_IF_ERROR(run.heap.StepBytes(text.size()));
  ASSIGN_OR_RETURN(MarkedText out, Replace(text, from.bytes(), to, count));
  return run.heap.String(std::move(out));
}

Result StringFilter(Runtime& run, const Value& self, const Bound&) {
  if (self.IsString()) return self;
  ASSIGN_OR_RETURN(MarkedText text, Str(run.heap, self));
  return run.heap.String(std::move(text));
}

Result EscapeFilter(Runtime& run, const Value& self, const Bound&) {
  if (self.IsMarkup()) return self;
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  return run.heap.String(Escaped(text), /*is_markup=*/true);
}
Result SafeFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(MarkedText text, Str(run.heap, self));
  return run.heap.String(std::move(text), /*is_markup=*/true);
}

Result FormatFilter(Runtime& run, const Value& self, const Bound& a) {
  if (!a.all.named.empty()) return absl::UnimplementedError("format with named arguments");
  ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, self));
  ASSIGN_OR_RETURN(const Value values, run.heap.Sequence(ValueKind::kTuple, a.all.positional));
  return FormatPercent(run.heap, text, values);
}

absl::StatusOr<MarkedText> IndentOf(const Bound& a) {
  if (a.Has(0) && a[0].IsString()) return a[0].AsText();
  ASSIGN_OR_RETURN(const int64_t width, a.Int(0, 4));
  if (width > static_cast<int64_t>(kTemplateOutputBytesMax)) return CheckTextBytes(width);
  return MarkedText(std::string(std::max<int64_t>(width, 0), ' '), /*is_template=*/true);
}

Result IndentFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const MarkedText indent, IndentOf(a));
  const bool first = a.IsTrue(1, false), blank = a.IsTrue(2, false);
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsString())
    return absl::InvalidArgumentError(absl::StrCat("indent of ", self.KindName()));
  MarkedText text = self.AsText();
  text.Append("\n", /*is_template=*/true);  // else an empty last line is none
  RETURN_IF_ERROR(run.heap.StepBytes(text.size()));
  const std::vector<MarkedText> lines = SplitLines(text, /*keep_ends=*/false);
  MarkedText out = first ? indent : MarkedText();
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append("\n", /*is_template=*/true);
    if (i > 0 && (blank || !lines[i].empty())) out.Append(indent);
    out.Append(lines[i]);
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
  }
  return run.heap.String(std::move(out));
}

absl::StatusOr<std::optional<std::string>> JsonIndent(const Bound& a, size_t i) {
  if (!a.Has(i) || a[i].IsNone()) return std::nullopt;
  if (a[i].IsString()) return std::optional(std::string(a[i].AsBytes()));
  ASSIGN_OR_RETURN(const int64_t width, a.Int(i, 0));
  if (width > 64) return absl::ResourceExhaustedError("tojson() with an indent of more than 64");
  return std::optional(std::string(std::max<int64_t>(width, 0), ' '));
}

Result ToJsonFilter(Runtime& run, const Value& self, const Bound& a) {
  JsonFormat format;
  format.ascii = a.IsTrue(0, false);
  ASSIGN_OR_RETURN(format.indent, JsonIndent(a, 1));
  if (format.indent) format.item_separator = ",";
  if (a.Has(2) && !a[2].IsNone()) {
    ASSIGN_OR_RETURN(const Values pair, Iterate(run.heap, a[2]));
    if (pair.size() != 2 || !pair[0].IsString() || !pair[1].IsString()) {
      return absl::InvalidArgumentError("tojson() with separators that are no two strings");
    }
    format.item_separator = pair[0].AsBytes();
    format.key_separator = pair[1].AsBytes();
  }
  format.sort_keys = a.IsTrue(3, false);
  ASSIGN_OR_RETURN(MarkedText text, JsonText(run.heap, self, format));
  return run.heap.String(std::move(text));
}

// Numbers.

// What int() and float() of a text make of it; nothing where they raise.
std::optional<Value> ParseInt(std::string_view text) {
  std::string digits(text.substr(LeadingSpaceBytes(text)));
  digits.resize(digits.size() - TrailingSpaceBytes(digits));
  for (size_t i = 1; i + 1 < digits.size(); ++i) {
    if (digits[i] == '_' && absl::ascii_isdigit(digits[i - 1]) &&
        absl::ascii_isdigit(digits[i + 1])) {
      digits.erase(i, 1);
    }
  }
  if (digits.empty() || digits.find_first_not_of("+-0123456789") != std::string::npos) {
    return std::nullopt;
  }
  int64_t number = 0;
  return absl::SimpleAtoi(digits, &number) ? std::optional(Value(number)) : std::nullopt;
}

std::optional<double> ParseFloat(std::string_view text) {
  double number = 0;
  const bool is_hex = text.find_first_of("xX") != std::string_view::npos;
  const bool ok = !is_hex && absl::SimpleAtod(absl::string_view(text.data(), text.size()), &number);
  return ok ? std::optional(number) : std::nullopt;
}

Result IntFilter(Runtime&, const Value& self, const Bound& a) {
  if (a.Has(1)) return absl::UnimplementedError("int with a base");
  const Value fallback = a.Has(0) ? a[0] : Value(int64_t{0});
  if (self.IsUndefined()) return UndefinedError(self);
  if (self.IsInteger()) return Value(self.AsInt());
  std::optional<double> number;
  if (self.Is(ValueKind::kFloat)) number = self.AsDouble();
  if (self.IsString()) {
    if (const auto whole = ParseInt(self.AsBytes())) return *whole;
    number = ParseFloat(self.AsBytes());
  }
  if (!number || std::isnan(*number)) return fallback;
  if (std::fabs(*number) >= 9.2e18)
    return absl::InvalidArgumentError("int of a number out of range");
  return Value(static_cast<int64_t>(*number));
}

Result FloatFilter(Runtime&, const Value& self, const Bound& a) {
  if (self.IsUndefined()) return UndefinedError(self);
  if (self.IsNumber()) return Value(self.AsDouble());
  if (self.IsString()) {
    if (const auto number = ParseFloat(self.AsBytes())) return Value(*number);
  }
  return a.Has(0) ? a[0] : Value(0.0);
}

Result AbsFilter(Runtime&, const Value& self, const Bound&) {
  if (self.Is(ValueKind::kFloat)) return Value(std::fabs(self.AsDouble()));
  if (self.IsInteger() && self.AsInt() >= 0) return Value(self.AsInt());
  return Signed("-", self);
}

Result RoundFilter(Runtime&, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const int64_t precision, a.Int(0, 0));
  const std::string_view method = a.Has(1) && a[1].IsString() ? a[1].AsBytes() : "common";
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsNumber() || precision < 0 || precision > 15) {
    return absl::InvalidArgumentError(absl::StrCat("round(", precision, ") of ", self.KindName()));
  }
  if (method == "common") {
    if (self.IsInteger()) return Value(self.AsInt());
    double rounded = 0;
    // Decimal digits are rounded right, half to even, by printing them.
    (void)absl::SimpleAtod(absl::StrFormat("%.*f", static_cast<int>(precision), self.AsDouble()),
                           &rounded);
    return Value(rounded);
  }
  if (method != "ceil" && method != "floor") {
    return absl::InvalidArgumentError("round's method is none of common, ceil and floor");
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = self.AsDouble() * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

// Lists.

Result LengthFilter(Runtime&, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(const int64_t length, Length(self));
  return Value(length);
}

Result FirstFilter(Runtime& run, const Value& self, const Bound&) {
  if (self.Is(ValueKind::kGenerator) && !self.AsSequence().is_read) {
    SequenceRep& generator = self.AsSequence();
    if (generator.items.empty()) return Value::MakeUndefined("there is no first item");
    Value item = generator.items.front();
    RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(1 + generator.items.size() / 8)));
    generator.items.erase(generator.items.begin());
    return item;
  }
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  return items.empty() ? Value::MakeUndefined("there is no first item") : items.front();
}

Result LastFilter(Runtime& run, const Value& self, const Bound&) {
  if (self.Is(ValueKind::kGenerator)) return absl::InvalidArgumentError("last of a generator");
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  return items.empty() ? Value::MakeUndefined("there is no last item") : items.back();
}

Result ListFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(Values items, Iterate(run.heap, self));
  return run.heap.Sequence(ValueKind::kList, std::move(items));
}

Result ReverseFilter(Runtime& run, const Value& self, const Bound&) {
  ASSIGN_OR_RETURN(Values items, Iterate(run.heap, self));
  std::reverse(items.begin(), items.end());
  if (!self.IsString()) return run.heap.Sequence(ValueKind::kGenerator, std::move(items));
  MarkedText out;
  for (const Value& item : items) out.Append(item.AsText());
  return run.heap.String(std::move(out));
}

Result ItemsFilter(Runtime& run, const Value& self, const Bound&) {
  Values items;
  if (self.IsDict()) {
    for (const auto& [key, value] : self.AsPairs()) {
      ASSIGN_OR_RETURN(Value pair, run.heap.Sequence(ValueKind::kTuple, {key, value}));
      items.push_back(std::move(pair));
    }
  } else if (!self.IsUndefined()) {
    return absl::InvalidArgumentError(absl::StrCat("items of ", self.KindName()));
  }
  return run.heap.Sequence(ValueKind::kGenerator, std::move(items));
}

// The member of `value` that "a.b.0" names.
Result Member(Heap& heap, Value value, const Value& path) {
  if (path.IsInteger()) return Item(heap, value, path);
  if (!path.IsString()) return absl::InvalidArgumentError("an attribute's name is no string");
  for (const absl::string_view part :
       absl::StrSplit(absl::string_view(path.AsBytes().data(), path.AsBytes().size()), '.')) {
    int64_t index = 0;
    const bool is_index = !part.empty() &&
                          std::all_of(part.begin(), part.end(), absl::ascii_isdigit) &&
                          absl::SimpleAtoi(part, &index);
    ASSIGN_OR_RETURN(const Value key, is_index ? absl::StatusOr<Value>(Value(index))
                                               : heap.String(std::string(part), true));
    ASSIGN_OR_RETURN(value, Item(heap, value, key));
  }
  return value;
}

// What to order or compare an item by.
Result KeyOf(Heap& heap, const Value& item, const std::optional<Value>& attribute,
             bool case_sensitive) {
  Value key = item;
  if (attribute && !attribute->IsNone()) {
    ASSIGN_OR_RETURN(key, Member(heap, item, *attribute));
  }
  if (case_sensitive || !key.IsString()) return key;
  return heap.String(Lower(key.AsText()));
}

// `items` ordered by `keys`; an order that cannot be told is an error.
absl::StatusOr<Values> Sorted(Heap& heap, const Values& items, const Values& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  absl::Status failed;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!failed.ok()) return false;
    const auto compared =
        reverse ? Compare(heap, keys[b], keys[a]) : Compare(heap, keys[a], keys[b]);
    if (!compared.ok()) failed = compared.status();
    return compared.ok() && *compared < 0;
  });
  RETURN_IF_ERROR(failed);
  Values sorted;
  for (const size_t i : order) sorted.push_back(items[i]);
  return sorted;
}

// Keys are lists of one: equal ones need no order.
Result SortFilter(Runtime& run, const Value& self, const Bound& a) {
  if (a.Has(2) && a[2].IsString() && a[2].AsBytes().find(',') != std::string_view::npos) {
    return absl::UnimplementedError("sort by several attributes is not supported");
  }
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  Values keys;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, KeyOf(run.heap, item, a.values[2], a.IsTrue(1, false)));
    ASSIGN_OR_RETURN(key, run.heap.Sequence(ValueKind::kList, {std::move(key)}));
    keys.push_back(std::move(key));
  }
  ASSIGN_OR_RETURN(Values sorted, Sorted(run.heap, items, keys, a.IsTrue(0, false)));
  return run.heap.Sequence(ValueKind::kList, std::move(sorted));
}

Result DictSortFilter(Runtime& run, const Value& self, const Bound& a) {
  const std::string_view by = a.Has(1) && a[1].IsString() ? a[1].AsBytes() : "key";
  if (self.IsUndefined()) return UndefinedError(self);
  if (!self.IsDict())
    return absl::InvalidArgumentError(absl::StrCat("dictsort of ", self.KindName()));
  if (by != "key" && by != "value") {
    return absl::InvalidArgumentError("dictsort by neither \"key\" nor \"value\"");
  }
  Values items, keys;
  for (const auto& [name, value] : self.AsPairs()) {
    ASSIGN_OR_RETURN(Value pair, run.heap.Sequence(ValueKind::kTuple, {name, value}));
    items.push_back(std::move(pair));
    ASSIGN_OR_RETURN(Value key,
                     KeyOf(run.heap, by == "key" ? name : value, std::nullopt, a.IsTrue(0, false)));
    keys.push_back(std::move(key));
  }
  ASSIGN_OR_RETURN(Values sorted, Sorted(run.heap, items, keys, a.IsTrue(2, false)));
  return run.heap.Sequence(ValueKind::kList, std::move(sorted));
}

Result UniqueFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  Values kept, seen;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, KeyOf(run.heap, item, a.values[1], a.IsTrue(0, false)));
    if (!IsHashable(key)) {
      return absl::InvalidArgumentError(absl::StrCat("unique of a ", key.KindName()));
    }
    ASSIGN_OR_RETURN(const Value list, run.heap.Sequence(ValueKind::kList, seen));
    ASSIGN_OR_RETURN(const bool known, Contains(run.heap, list, key));
    if (known) continue;
    seen.push_back(std::move(key));
    kept.push_back(item);
  }
  return run.heap.Sequence(ValueKind::kGenerator, std::move(kept));
}

Result Extreme(Runtime& run, const Value& self, const Bound& a, int sign) {
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  if (items.empty()) return Value::MakeUndefined("there is no item");
  size_t best = 0;
  Values keys;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(Value key, KeyOf(run.heap, items[i], a.values[1], a.IsTrue(0, false)));
    keys.push_back(std::move(key));
    ASSIGN_OR_RETURN(const int order,
                     i == 0 ? absl::StatusOr<int>(0) : Compare(run.heap, keys[i], keys[best]));
    if (order * sign > 0) best = i;
  }
  return items[best];
}
Result MinFilter(Runtime& run, const Value& self, const Bound& a) {
  return Extreme(run, self, a, -1);
}
Result MaxFilter(Runtime& run, const Value& self, const Bound& a) {
  return Extreme(run, self, a, 1);
}

Result SumFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  Value sum = a.Has(1) ? a[1] : Value(int64_t{0});
  for (const Value& item : items) {
    Value number = item;
    if (a.Has(0) && !a[0].IsNone()) {
      ASSIGN_OR_RETURN(number, Member(run.heap, item, a[0]));
    }
    ASSIGN_OR_RETURN(sum, Calculate(run.heap, "+", sum, number));
  }
  return sum;
}

Result JoinFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Values items, Iterate(run.heap, self));
  MarkedText separator, out;
  if (a.Has(0)) {
    ASSIGN_OR_RETURN(separator, Str(run.heap, a[0]));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (a.Has(1) && !a[1].IsNone()) {
      ASSIGN_OR_RETURN(item, Member(run.heap, item, a[1]));
    }
    ASSIGN_OR_RETURN(const MarkedText text, Str(run.heap, item));
    if (i > 0) out.Append(separator);
    out.Append(text);
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
  }
  return run.heap.String(std::move(out));
}

Result DefaultFilter(Runtime& run, const Value& self, const Bound& a) {
  if (!self.IsUndefined() && !(a.IsTrue(1, false) && !IsTrue(self))) return self;
  return a.Has(0) ? a[0] : run.heap.String("", true);
}

// Filters that take another filter's or a test's name.

absl::StatusOr<Arguments> Behind(const Arguments& all, size_t count) {
  Arguments rest;
  rest.positional.assign(all.positional.begin() + count, all.positional.end());
  rest.named = all.named;
  return rest;
}

const Value* Named(const Arguments& all, std::string_view name) {
  for (const auto& [key, value] : all.named) {
    if (key == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<std::string_view> NameAt(const Arguments& all, size_t i, const char* what) {
  if (i < all.positional.size() && all.positional[i].IsString()) return all.positional[i].AsBytes();
  return absl::InvalidArgumentError(absl::StrCat(what, " needs a name"));
}

Result MapAttribute(Runtime& run, const Values& items, const Arguments& all) {
  const Value* const attribute = Named(all, "attribute");
  const Value* const fallback = Named(all, "default");
  if (all.named.size() > (fallback != nullptr ? 2u : 1u)) {
    return absl::InvalidArgumentError("map(attribute=...) with further arguments");
  }
  Values out;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value member, Member(run.heap, item, *attribute));
    out.push_back(member.IsUndefined() && fallback != nullptr ? *fallback : std::move(member));
  }
  return run.heap.Sequence(ValueKind::kGenerator, std::move(out));
}

// What is false has no items, be it none or a number.
absl::StatusOr<Values> ItemsOf(Heap& heap, const Value& value) {
  if (!IsTrue(value)) return Values();
  return Iterate(heap, value);
}

Result MapFilter(Runtime& run, const Value& self, const Bound& a) {
  ASSIGN_OR_RETURN(const Values items, ItemsOf(run.heap, self));
  if (a.all.positional.empty() && Named(a.all, "attribute") != nullptr) {
    return MapAttribute(run, items, a.all);
  }
  ASSIGN_OR_RETURN(const std::string_view name, NameAt(a.all, 0, "map()"));
  const Builtin* const filter = FindFilter(name);
  if (filter == nullptr) return NotSupported("filter", name);
  ASSIGN_OR_RETURN(const Arguments rest, Behind(a.all, 1));
  Values out;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value mapped, CallBuiltin(run, *filter, item, rest));
    out.push_back(std::move(mapped));
  }
  return run.heap.Sequence(ValueKind::kGenerator, std::move(out));
}

// The items that pass the test named behind the first `skipped` arguments, or that are true.
Result Filtered(Runtime& run, const Value& self, const Arguments& all, size_t skipped, bool keep) {
  ASSIGN_OR_RETURN(const Values items, ItemsOf(run.heap, self));
  if (all.positional.size() < skipped) return absl::InvalidArgumentError("an attribute is missing");
  const bool tests = all.positional.size() > skipped;
  const Builtin* test = nullptr;
  Arguments rest;
  if (tests) {
    ASSIGN_OR_RETURN(const std::string_view name, NameAt(all, skipped, "a test"));
    test = FindTest(name);
    if (test == nullptr) return NotSupported("test", name);
    ASSIGN_OR_RETURN(rest, Behind(all, skipped + 1));
  }
  Values out;
  for (const Value& item : items) {
    Value tested = item;
    if (skipped > 0) {
      ASSIGN_OR_RETURN(tested, Member(run.heap, item, all.positional[0]));
    }
    if (tests) {
      ASSIGN_OR_RETURN(tested, CallBuiltin(run, *test, tested, rest));
    }
    if (IsTrue(tested) == keep) out.push_back(item);
  }
  return run.heap.Sequence(ValueKind::kGenerator, std::move(out));
}
Result SelectFilter(Runtime& run, const Value& self, const Bound& a) {
  return Filtered(run, self, a.all, 0, true);
}
Result RejectFilter(Runtime& run, const Value& self, const Bound& a) {
  return Filtered(run, self, a.all, 0, false);
}
Result SelectAttrFilter(Runtime& run, const Value& self, const Bound& a) {
  return Filtered(run, self, a.all, 1, true);
}
Result RejectAttrFilter(Runtime& run, const Value& self, const Bound& a) {
  return Filtered(run, self, a.all, 1, false);
}

constexpr Builtin kFilters[] = {
    {"abs", {}, 0, AbsFilter},
    {"capitalize", {}, 0, CapitalizeFilter},
    {"count", {}, 0, LengthFilter},
    {"d", {"default_value", "boolean"}, 0, DefaultFilter},
    {"default", {"default_value", "boolean"}, 0, DefaultFilter},
    {"dictsort", {"case_sensitive", "by", "reverse"}, 0, DictSortFilter},
    {"e", {}, 0, EscapeFilter},
    {"escape", {}, 0, EscapeFilter},
    {"first", {}, 0, FirstFilter},
    {"float", {"default"}, 0, FloatFilter},
    {"format", {}, kAny, FormatFilter},
    {"indent", {"width", "first", "blank"}, 0, IndentFilter},
    {"int", {"default", "base"}, 0, IntFilter},
    {"items", {}, 0, ItemsFilter},
    {"join", {"d", "attribute"}, 0, JoinFilter},
    {"last", {}, 0, LastFilter},
    {"length", {}, 0, LengthFilter},
    {"list", {}, 0, ListFilter},
    {"lower", {}, 0, LowerFilter},
    {"map", {}, kAny, MapFilter},
    {"max", {"case_sensitive", "attribute"}, 0, MaxFilter},
    {"min", {"case_sensitive", "attribute"}, 0, MinFilter},
    {"reject", {}, kAny, RejectFilter},
    {"rejectattr", {}, kAny, RejectAttrFilter},
    {"replace", {"old", "new", "count"}, 2, ReplaceFilter},
    {"reverse", {}, 0, ReverseFilter},
    {"round", {"precision", "method"}, 0, RoundFilter},
    {"safe", {}, 0, SafeFilter},
    {"select", {}, kAny, SelectFilter},
    {"selectattr", {}, kAny, SelectAttrFilter},
    {"sort", {"reverse", "case_sensitive", "attribute"}, 0, SortFilter},
    {"string", {}, 0, StringFilter},
    {"sum", {"attribute", "start"}, 0, SumFilter},
    {"title", {}, 0, TitleFilter},
    {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, ToJsonFilter},
    {"trim", {"chars"}, 0, TrimFilter},
    {"unique", {"case_sensitive", "attribute"}, 0, UniqueFilter},
    {"upper", {}, 0, UpperFilter},
};

}  // namespace

const Builtin* FindFilter(std::string_view name) {
  for (const Builtin& filter : kFilters) {
    if (name == filter.name) return &filter;
  }
  return nullptr;
}

}  // namespace pregate::jinja
