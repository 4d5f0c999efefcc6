#include "common/model/tokenizer/letter_case.h"

#include <utf8proc.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/base/status.h"

namespace pregate {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isascii(c); });
}

// Each character becomes `mapped` of it, but `special`, which becomes `as`.
std::string MapCharacters(std::string_view text, utf8proc_int32_t (*mapped)(utf8proc_int32_t),
                          utf8proc_int32_t special, std::string_view as) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    utf8proc_int32_t character = 0;
    const utf8proc_ssize_t length =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                         static_cast<utf8proc_ssize_t>(text.size()), &character);
    PREGATE_CHECK(length > 0, "utf8proc: ", utf8proc_errmsg(length));
    text.remove_prefix(static_cast<size_t>(length));
    if (character == special) {
      out.append(as);
      continue;
    }
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t size = utf8proc_encode_char(mapped(character), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  }
  return out;
}

}  // namespace

std::string ToUpper(std::string_view text) {
  if (IsAscii(text)) return absl::AsciiStrToUpper(absl::string_view(text.data(), text.size()));
  return MapCharacters(text, utf8proc_toupper, 0xDF, "SS");
}

std::string ToLower(std::string_view text) {
  if (IsAscii(text)) return absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  return MapCharacters(text, utf8proc_tolower, 0x130, "i\xCC\x87");
}

}  // namespace pregate
