#include "cli/printable.h"

#include <cstdint>

namespace pregate::cli {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";

// The size of the UTF-8 character that `text` begins with and its code point; 0: there is none.
size_t Decode(absl::string_view text, uint32_t* code) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return *code = lead, 1;
  const size_t size = lead >= 0xC2 && lead < 0xE0   ? 2
                      : lead >= 0xE0 && lead < 0xF0 ? 3
                      : lead >= 0xF0 && lead < 0xF5 ? 4
                                                    : 0;
  if (size == 0 || text.size() < size) return 0;
  *code = lead & (0x7F >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
    *code = *code << 6 | (at(i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};  // an overlong form may hide one
  const bool surrogate = *code >= 0xD800 && *code < 0xE000;
  return *code < kLeast[size] || *code > 0x10FFFF || surrogate ? 0 : size;
}

bool IsControl(uint32_t code) { return code < 0x20 || (code >= 0x7F && code < 0xA0); }

}  // namespace

std::string Printable(absl::string_view text, Layout layout) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t size = Decode(text, &code);
    const bool stays = layout == Layout::kFlow && (code == '\n' || code == '\t');
    const bool shown = size > 0 && (stays || !IsControl(code));
    const absl::string_view character = shown ? text.substr(0, size) : kReplacement;
    out.append(character.data(), character.size());
    text.remove_prefix(size > 0 ? size : 1);
  }
  return out;
}

}  // namespace pregate::cli
