#include "gateway_service/core/json_text.h"

#include "absl/strings/str_cat.h"
#include "common/base/utf8.h"

namespace pregate::gateway {

void AppendJsonString(std::string* out, absl::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string replaced;
  if (!IsUtf8({text.data(), text.size()})) {
    replaced = ReplaceStrayBytes({text.data(), text.size()});
    text = replaced;
  }
  out->push_back('"');
  size_t plain = 0;  // where what needs no escape begins
  const auto escape = [&](size_t at, absl::string_view as) {
    absl::StrAppend(out, text.substr(plain, at - plain), as);
    plain = at + 1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"') escape(i, "\\\"");
    if (c == '\\') escape(i, "\\\\");
    if (c == '\n') escape(i, "\\n");
    if (c >= 0x20 || c == '\n') continue;
    escape(i, absl::StrCat("\\u00", absl::string_view(&kHex[c >> 4], 1),
                           absl::string_view(&kHex[c & 15], 1)));
  }
  absl::StrAppend(out, text.substr(plain), "\"");
}

std::string JsonString(absl::string_view text) {
  std::string out;
  AppendJsonString(&out, text);
  return out;
}

void AppendJsonArray(std::string* out, absl::Span<const int32_t> values) {
  out->push_back('[');
  for (size_t i = 0; i < values.size(); ++i) absl::StrAppend(out, i == 0 ? "" : ",", values[i]);
  out->push_back(']');
}

}  // namespace pregate::gateway
