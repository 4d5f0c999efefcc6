#include "common/model/tokenizer/jinja/printing.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/characters.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;

// Appends text that is nobody's own: punctuation, numbers, names.
void Put(std::string_view text, MarkedText* out) { out->Append(text, /*is_template=*/false); }

std::string PlainText(const Value& value) {
  if (value.IsNone()) return "None";
  if (value.Is(ValueKind::kBool)) return value.AsBool() ? "True" : "False";
  if (value.Is(ValueKind::kInt)) return absl::StrCat(value.AsInt());
  return FloatText(value.AsDouble());
}

void PutEscapedCode(char32_t code, MarkedText* out) {
  Put(code <= 0xFF     ? absl::StrFormat("\\x%02x", static_cast<uint32_t>(code))
      : code <= 0xFFFF ? absl::StrFormat("\\u%04x", static_cast<uint32_t>(code))
                       : absl::StrFormat("\\U%08x", static_cast<uint32_t>(code)),
      out);
}

// Python's repr of a string.
void PutQuoted(const MarkedText& text, MarkedText* out) {
  const std::string_view bytes = text.bytes();
  const bool has_single = bytes.find('\'') != std::string_view::npos;
  const bool has_double = bytes.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  Put(std::string(1, quote), out);
  size_t length = 0;
  for (size_t i = 0; i < bytes.size(); i += length) {
    length = CharacterBytes(bytes, i);
    const char c = bytes[i];
    if (c == '\n' || c == '\r' || c == '\t') {
      Put(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", out);
    } else if (!IsPrintable(bytes.substr(i, length))) {
      PutEscapedCode(CodePointAt(bytes, i), out);
    } else {
      if (c == quote || c == '\\') Put("\\", out);
      out->AppendPart(text, i, length);
    }
  }
  Put(std::string(1, quote), out);
}

class Printer {
 public:
  explicit Printer(Heap& heap) : heap_(heap) {}

  absl::Status Repr(const Value& value) {
    RETURN_IF_ERROR(heap_.Step());
    RETURN_IF_ERROR(CheckTextBytes(out_.size()));
    switch (value.kind()) {
      case ValueKind::kUndefined:
        Put("Undefined", &out_);
        return absl::OkStatus();
      case ValueKind::kString:
        return ReprText(value.AsText());
      case ValueKind::kDict:
        return ReprDict(value);
      case ValueKind::kList:
      case ValueKind::kTuple:
      case ValueKind::kView:
        return ReprItems(value);
      case ValueKind::kNone:
      case ValueKind::kBool:
      case ValueKind::kInt:
      case ValueKind::kFloat:
        Put(PlainText(value), &out_);
        return absl::OkStatus();
      default:
        return absl::UnimplementedError(
            absl::StrCat("printing a ", value.KindName(), " is not supported"));
    }
  }

  MarkedText Take() { return std::move(out_); }

 private:
  // A character may take ten bytes, and a look-up.
  absl::Status ReprText(const MarkedText& text) {
    RETURN_IF_ERROR(heap_.Step(static_cast<int64_t>(text.size())));
    RETURN_IF_ERROR(CheckTextBytes(out_.size() + text.size()));
    PutQuoted(text, &out_);
    return absl::OkStatus();
  }

  absl::Status ReprItems(const Value& value) {
    const std::vector<Value>& items = value.AsItems();
    const bool is_tuple = value.Is(ValueKind::kTuple);
    Put(value.Is(ValueKind::kView) ? "dict_view([" : is_tuple ? "(" : "[", &out_);
    if (value.Is(ValueKind::kView)) {
      return absl::UnimplementedError("printing a dict view is not supported");
    }
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) Put(", ", &out_);
      RETURN_IF_ERROR(Repr(items[i]));
    }
    Put(!is_tuple ? "]" : items.size() == 1 ? ",)" : ")", &out_);
    return absl::OkStatus();
  }

  absl::Status ReprDict(const Value& value) {
    Put("{", &out_);
    bool is_first = true;
    for (const auto& [key, item] : value.AsPairs()) {
      if (!is_first) Put(", ", &out_);
      is_first = false;
      RETURN_IF_ERROR(Repr(key));
      Put(": ", &out_);
      RETURN_IF_ERROR(Repr(item));
    }
    Put("}", &out_);
    return absl::OkStatus();
  }

  Heap& heap_;
  MarkedText out_;
};

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonFormat& format) : heap_(heap), format_(format) {}

  absl::Status Write(const Value& value, int level) {
    RETURN_IF_ERROR(heap_.Step());
    RETURN_IF_ERROR(CheckTextBytes(out_.size()));
    switch (value.kind()) {
      case ValueKind::kString:
        return WriteText(value.AsText());
      case ValueKind::kDict:
        return WriteDict(value, level);
      case ValueKind::kList:
      case ValueKind::kTuple:
        return WriteItems(value.AsItems(), level);
      case ValueKind::kNone:
      case ValueKind::kBool:
      case ValueKind::kInt:
      case ValueKind::kFloat:
        Put(JsonPlain(value), &out_);
        return absl::OkStatus();
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("\"", value.KindName(), "\" cannot be written as JSON"));
    }
  }

  MarkedText Take() { return std::move(out_); }

 private:
  static std::string JsonPlain(const Value& value) {
    if (value.IsNone()) return "null";
    if (value.Is(ValueKind::kBool)) return value.AsBool() ? "true" : "false";
    if (value.Is(ValueKind::kInt) || std::isfinite(value.AsDouble())) return PlainText(value);
    return std::isnan(value.AsDouble()) ? "NaN" : value.AsDouble() > 0 ? "Infinity" : "-Infinity";
  }

  absl::Status WriteText(const MarkedText& text) {
    RETURN_IF_ERROR(heap_.StepBytes(text.size()));
    RETURN_IF_ERROR(CheckTextBytes(out_.size() + text.size()));
    const std::string_view bytes = text.bytes();
    Put("\"", &out_);
    size_t plain = 0;  // where what is written as it is begins
    for (size_t i = 0; i < bytes.size();) {
      const size_t length = CharacterBytes(bytes, i);
      const std::string escape = Escape(bytes, i);
      if (!escape.empty()) {
        out_.AppendPart(text, plain, i - plain);
        Put(escape, &out_);
        plain = i + length;
      }
      i += length;
    }
    out_.AppendPart(text, plain, bytes.size() - plain);
    Put("\"", &out_);
    return absl::OkStatus();
  }

  // Empty: the character stays as it is.
  std::string Escape(std::string_view bytes, size_t i) const {
    constexpr std::string_view kCharacters = "\"\\\n\r\t\b\f", kNames = "\"\\nrtbf";
    const size_t at = kCharacters.find(bytes[i]);
    if (at != std::string_view::npos) return {'\\', kNames[at]};
    const char32_t code = CodePointAt(bytes, i);
    if (code < 0x20 || (format_.ascii && code >= 0x7F && code <= 0xFFFF)) {
      return absl::StrFormat("\\u%04x", static_cast<uint32_t>(code));
    }
    if (!format_.ascii || code <= 0xFFFF) return "";
    const auto rest = static_cast<uint32_t>(code - 0x10000);
    return absl::StrFormat("\\u%04x\\u%04x", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
  }

  void BreakLine(int level) {
    if (!format_.indent) return;
    Put("\n", &out_);
    for (int i = 0; i < level; ++i) Put(*format_.indent, &out_);
  }

  absl::Status WriteItems(const std::vector<Value>& items, int level) {
    Put("[", &out_);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) Put(format_.item_separator, &out_);
      BreakLine(level + 1);
      RETURN_IF_ERROR(Write(items[i], level + 1));
    }
    if (!items.empty()) BreakLine(level);
    Put("]", &out_);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Value::Pair>> Members(const Value& dict) const {
    std::vector<Value::Pair> members = dict.AsPairs();
    if (!format_.sort_keys) return members;
    for (const auto& [key, unused] : members) {
      if (!key.IsString()) {
        return absl::UnimplementedError("tojson(sort_keys) of keys that are no strings");
      }
    }
    std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
      return a.first.AsBytes() < b.first.AsBytes();
    });
    return members;
  }

  absl::Status WriteDict(const Value& value, int level) {
    ASSIGN_OR_RETURN(const auto members, Members(value));
    Put("{", &out_);
    bool is_first = true;
    for (const auto& [key, item] : members) {
      if (!is_first) Put(format_.item_separator, &out_);
      is_first = false;
      BreakLine(level + 1);
      RETURN_IF_ERROR(WriteKey(key));
      Put(format_.key_separator, &out_);
      RETURN_IF_ERROR(Write(item, level + 1));
    }
    if (!members.empty()) BreakLine(level);
    Put("}", &out_);
    return absl::OkStatus();
  }

  absl::Status WriteKey(const Value& key) {
    if (key.IsString()) return WriteText(key.AsText());
    if (!key.IsNone() && !key.IsNumber()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", key.KindName(), "\" cannot be a key of JSON"));
    }
    Put("\"" + JsonPlain(key) + "\"", &out_);
    return absl::OkStatus();
  }

  Heap& heap_;
  const JsonFormat& format_;
  MarkedText out_;
};

}  // namespace

std::string FloatText(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[64];
  const double size = std::fabs(number);
  const bool is_plain = number == 0 || (size >= 1e-4 && size < 1e16);
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), number,
                    is_plain ? std::chars_format::fixed : std::chars_format::scientific)
          .ptr;
  std::string text(buffer, end);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

absl::StatusOr<MarkedText> Str(Heap& heap, const Value& value) {
  if (value.IsString()) return value.AsText();
  if (value.IsUndefined()) return MarkedText();
  Printer printer(heap);
  RETURN_IF_ERROR(printer.Repr(value));
  return printer.Take();
}

absl::StatusOr<MarkedText> JsonText(Heap& heap, const Value& value, const JsonFormat& format) {
  JsonWriter writer(heap, format);
  RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

}  // namespace pregate::jinja
