#include "common/base/utf8.h"

#include <cstdint>

namespace pregate {
namespace {

struct Lead {
  int length;                 // of the whole character, 0: no character begins like this
  uint8_t second_min = 0x80;  // bounds of the second byte; those after it are 80..BF
  uint8_t second_max = 0xBF;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view bytes, size_t pos) {
  const Lead lead = LeadOf(static_cast<uint8_t>(bytes[pos]));
  if (lead.length == 0) return {Utf8Kind::kInvalid, 1};
  for (int i = 1; i < lead.length; ++i) {
    if (pos + i == bytes.size()) return {Utf8Kind::kIncomplete, static_cast<size_t>(i)};
    const uint8_t byte = static_cast<uint8_t>(bytes[pos + i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Kind::kInvalid, static_cast<size_t>(i)};
  }
  return {Utf8Kind::kCharacter, static_cast<size_t>(lead.length)};
}

bool IsUtf8(std::string_view bytes) {
  for (size_t pos = 0; pos < bytes.size();) {
    const Utf8Step step = NextUtf8(bytes, pos);
    if (step.kind != Utf8Kind::kCharacter) return false;
    pos += step.length;
  }
  return true;
}

std::string ReplaceStrayBytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t pos = 0; pos < bytes.size();) {
    const Utf8Step step = NextUtf8(bytes, pos);
    if (step.kind == Utf8Kind::kCharacter) {
      out.append(bytes.substr(pos, step.length));
      pos += step.length;
    } else {
      out.append(kReplacementCharacter);
      ++pos;
    }
  }
  return out;
}

}  // namespace pregate
