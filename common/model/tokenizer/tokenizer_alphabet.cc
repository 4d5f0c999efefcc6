#include "common/model/tokenizer/tokenizer_alphabet.h"

#include <array>

#include "common/base/utf8.h"

namespace pregate {
namespace {

constexpr int kFirstSubstitute = 0x100;
constexpr int kCodePointsEnd = 0x144;  // 256 printable and substituted characters lie below

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> code_point{};
  std::array<int16_t, kCodePointsEnd> byte{};  // -1: not in the alphabet
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte) byte = -1;
  int substitute = kFirstSubstitute;
  for (int byte = 0; byte < 256; ++byte) {
    const int code_point = StandsForItself(byte) ? byte : substitute++;
    alphabet.code_point[byte] = static_cast<uint16_t>(code_point);
    alphabet.byte[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

// REQUIRES: a well-formed character of one or two bytes.
int CodePoint(std::string_view character) {
  const int first = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) return first;
  return ((first & 0x1F) << 6) | (static_cast<uint8_t>(character[1]) & 0x3F);
}

}  // namespace

std::string AlphabetFromByte(uint8_t byte) {
  const int code_point = kAlphabet.code_point[byte];
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::optional<std::string> BytesFromAlphabet(std::string_view text) {
  std::string bytes;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Step step = NextUtf8(text, pos);
    if (step.kind != Utf8Kind::kCharacter || step.length > 2) return std::nullopt;
    const int code_point = CodePoint(text.substr(pos, step.length));
    if (code_point >= kCodePointsEnd || kAlphabet.byte[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte[code_point]));
    pos += step.length;
  }
  return bytes;
}

std::string AlphabetFromBytes(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += AlphabetFromByte(static_cast<uint8_t>(byte));
  return text;
}

}  // namespace pregate
