#include "common/base/text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// The encoding that the mark before `bytes` stands for, where it is not UTF-8. UTF-32's little
// mark begins with UTF-16's.
std::string_view OtherEncoding(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE\0\0"sv) || bytes.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (bytes.starts_with("\xFF\xFE"sv) || bytes.starts_with("\xFE\xFF"sv)) return "UTF-16";
  return "";
}

}  // namespace

std::string_view WithoutByteOrderMark(std::string_view bytes) {
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  return bytes;
}

absl::Status CheckUtf8(std::string_view text, std::string_view where) {
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Step step = NextUtf8(text, pos);
    if (step.kind != Utf8Kind::kCharacter) {
      const auto line = 1 + std::count(text.begin(), text.begin() + pos, '\n');
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s is not UTF-8: byte %d (line %d) is 0x%02X, which belongs to no character",
          std::string(where), pos, line, static_cast<uint8_t>(text[pos])));
    }
    pos += step.length;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> TextOf(std::string_view bytes, std::string_view where) {
  if (const std::string_view encoding = OtherEncoding(bytes); !encoding.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        std::string(where), " is ", std::string(encoding), ", expected UTF-8: save it as that"));
  }
  RETURN_IF_ERROR(CheckUtf8(bytes, where));
  return WithoutByteOrderMark(bytes);
}

bool TextLines::Next() {
  if (rest_.empty()) return false;
  const size_t end = rest_.find('\n');
  line_ = rest_.substr(0, end);
  rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
  if (line_.ends_with('\r')) line_.remove_suffix(1);
  ++number_;
  return true;
}

bool TextLines::IsBlank() const { return line_.find_first_not_of(" \t") == std::string_view::npos; }

std::optional<size_t> JsonTooDeepAt(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '}' || c == ']') --depth;
    if ((c == '{' || c == '[') && ++depth > kJsonDepthMax) return i;
  }
  return std::nullopt;
}

}  // namespace pregate
