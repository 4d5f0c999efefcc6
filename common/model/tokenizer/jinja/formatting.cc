#include "common/model/tokenizer/jinja/formatting.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/printing.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;

absl::Status Unsupported(const std::string& what) {
  return absl::UnimplementedError(absl::StrCat("the format ", what, " is not supported"));
}

// Gives the values of a % one after another.
class PercentValues {
 public:
  explicit PercentValues(const Value& value) : value_(value) {}

  absl::StatusOr<Value> Next() {
    const bool is_tuple = value_.Is(ValueKind::kTuple);
    if (next_ >= (is_tuple ? value_.AsItems().size() : 1)) {
      return absl::InvalidArgumentError("not enough arguments for a format");
    }
    ++next_;
    return is_tuple ? value_.AsItems()[next_ - 1] : value_;
  }
  bool AllTaken() const {
    if (value_.Is(ValueKind::kTuple)) return next_ == value_.AsItems().size();
    // What has items need not be used.
    return next_ == 1 || value_.IsDict() || value_.IsUndefined() || value_.Is(ValueKind::kList) ||
           value_.Is(ValueKind::kRange);
  }

 private:
  const Value& value_;
  size_t next_ = 0;
};

absl::StatusOr<MarkedText> ReprOf(Heap& heap, const Value& value) {
  ASSIGN_OR_RETURN(const Value list, heap.Sequence(ValueKind::kList, {value}));
  ASSIGN_OR_RETURN(const MarkedText text, Str(heap, list));
  return text.Part(1, text.size() - 2);
}

absl::StatusOr<MarkedText> NumberText(const Value& value, char kind, int precision) {
  if (!value.IsNumber()) {
    return absl::InvalidArgumentError(
        absl::StrCat("%", std::string(1, kind), " of ", value.KindName()));
  }
  if (kind == 'f') {
    return MarkedText(absl::StrFormat("%.*f", precision, value.AsDouble()), false);
  }
  if (value.IsInteger()) return MarkedText(absl::StrCat(value.AsInt()), false);
  const double whole = std::trunc(value.AsDouble());
  if (!(std::fabs(whole) < 9e18)) return absl::InvalidArgumentError("%d of a number out of range");
  return MarkedText(absl::StrCat(static_cast<int64_t>(whole)), false);
}

// One conversion from the % on; moves `pos` behind it.
absl::Status AppendConversion(Heap& heap, std::string_view format, size_t* pos,
                              PercentValues* values, MarkedText* out) {
  const size_t begin = *pos;
  int precision = 6;
  size_t at = begin + 1;
  if (format.substr(at).starts_with('.') && at + 1 < format.size() &&
      absl::ascii_isdigit(format[at + 1])) {
    precision = format[at + 1] - '0';
    at += 2;
  }
  const char kind = at < format.size() ? format[at] : ' ';
  const bool is_known = (kind == 'f') || (at == begin + 1 && std::string_view("srdi").find(kind) !=
                                                                 std::string_view::npos);
  if (!is_known) return Unsupported("\"" + std::string(format.substr(begin, 1)) + "...\"");
  ASSIGN_OR_RETURN(const Value value, values->Next());
  MarkedText text;
  if (kind == 's') {
    ASSIGN_OR_RETURN(text, Str(heap, value));
  } else if (kind == 'r') {
    ASSIGN_OR_RETURN(text, ReprOf(heap, value));
  } else {
    ASSIGN_OR_RETURN(text, NumberText(value, kind, precision));
  }
  *pos = at + 1;
  out->Append(text);
  return CheckTextBytes(out->size());
}

}  // namespace

MarkedText Escaped(const MarkedText& text) {
  constexpr std::string_view kCharacters = "&<>'\"";
  constexpr const char* kNames[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  MarkedText out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t at = std::min(text.bytes().find_first_of(kCharacters, begin), text.size());
    out.AppendPart(text, begin, at - begin);
    if (at < text.size()) out.Append(kNames[kCharacters.find(text.bytes()[at])], false);
    begin = at + 1;
  }
  return out;
}

absl::StatusOr<Value> FormatPercent(Heap& heap, const MarkedText& format, const Value& value) {
  const std::string_view bytes = format.bytes();
  RETURN_IF_ERROR(heap.StepBytes(bytes.size()));
  PercentValues values(value);
  MarkedText out;
  for (size_t pos = 0; pos < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', pos), bytes.size());
    out.AppendPart(format, pos, percent - pos);
    pos = percent;
    if (pos == bytes.size()) break;
    if (bytes.substr(pos, 2) == "%%") {
      out.AppendPart(format, pos, 1);
      pos += 2;
    } else {
      RETURN_IF_ERROR(AppendConversion(heap, bytes, &pos, &values, &out));
    }
  }
  if (!values.AllTaken()) {
    return absl::InvalidArgumentError("not all arguments of a format are used");
  }
  return heap.String(std::move(out));
}

namespace {

// The value of a field "", "0" or "name".
absl::StatusOr<Value> FieldValue(std::string_view field, const Arguments& arguments, size_t* next) {
  const absl::string_view name(field.data(), field.size());
  uint32_t index = 0;
  if (field.empty()) index = static_cast<uint32_t>((*next)++);
  if (field.empty() || absl::SimpleAtoi(name, &index)) {
    if (index < arguments.positional.size()) return arguments.positional[index];
    return absl::InvalidArgumentError("format() has not enough arguments");
  }
  for (const auto& [key, value] : arguments.named) {
    if (key == field) return value;
  }
  if (field.find_first_of(".[:!") != std::string_view::npos) {
    return Unsupported(absl::StrCat("\"{", name.substr(0, 32), "}\""));
  }
  return absl::InvalidArgumentError(absl::StrCat("format() gets no \"", name.substr(0, 32), "\""));
}

}  // namespace

absl::StatusOr<Value> FormatBraces(Heap& heap, const MarkedText& format,
                                   const Arguments& arguments) {
  const std::string_view bytes = format.bytes();
  RETURN_IF_ERROR(heap.StepBytes(bytes.size()));
  MarkedText out;
  size_t next = 0;
  for (size_t pos = 0; pos < bytes.size();) {
    const size_t brace = std::min(bytes.find_first_of("{}", pos), bytes.size());
    out.AppendPart(format, pos, brace - pos);
    pos = brace;
    if (pos == bytes.size()) break;
    if (bytes.substr(pos, 2) == "{{" || bytes.substr(pos, 2) == "}}") {
      out.AppendPart(format, pos, 1);
      pos += 2;
      continue;
    }
    const size_t end = bytes.find('}', pos);
    if (bytes[pos] == '}' || end == std::string_view::npos) {
      return absl::InvalidArgumentError("a brace of a format is alone");
    }
    ASSIGN_OR_RETURN(const Value value,
                     FieldValue(bytes.substr(pos + 1, end - pos - 1), arguments, &next));
    ASSIGN_OR_RETURN(const MarkedText text, Str(heap, value));
    out.Append(text);
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
    pos = end + 1;
  }
  return heap.String(std::move(out));
}

}  // namespace pregate::jinja
