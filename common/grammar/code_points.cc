#include "common/grammar/code_points.h"

#include <algorithm>

#include "common/base/utf8.h"

namespace pregate {
namespace {

constexpr uint32_t kLast = 0x10FFFF;

// Cuts [low, high] until the characters of a piece differ in nothing but the ranges of their bytes.
void AddPieces(uint32_t low, uint32_t high, Grammar* grammar, std::vector<Grammar::Expr>* out) {
  for (const uint32_t last : {0x7Fu, 0x7FFu, 0xFFFFu}) {
    if (low <= last && last < high) {
      AddPieces(low, last, grammar, out);
      AddPieces(last + 1, high, grammar, out);
      return;
    }
  }
  for (uint32_t bits = 6; bits <= 18 && high > 0x7F; bits += 6) {
    const uint32_t mask = (1u << bits) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      AddPieces(low, low | mask, grammar, out);
      AddPieces((low | mask) + 1, high, grammar, out);
      return;
    }
    if ((high & mask) != mask) {
      AddPieces(low, (high & ~mask) - 1, grammar, out);
      AddPieces(high & ~mask, high, grammar, out);
      return;
    }
  }
  const std::string first = EncodeUtf8(low), last = EncodeUtf8(high);
  std::vector<Grammar::Expr> bytes;
  for (size_t i = 0; i < first.size(); ++i) {
    bytes.push_back(grammar->Range(static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i])));
  }
  out->push_back(grammar->Sequence(std::move(bytes)));
}

}  // namespace

CodePointSet CodePointSet::All() {
  CodePointSet all;
  all.intervals_ = {{0, 0xD7FF}, {0xE000, kLast}};
  return all;
}

CodePointSet CodePointSet::Of(uint32_t low, uint32_t high) {
  CodePointSet set;
  set.Add(low, high);
  return set;
}

void CodePointSet::Add(uint32_t low, uint32_t high) {
  if (low < 0xD800 && high > 0xDFFF) {
    Add(low, 0xD7FF);
    return Add(0xE000, high);
  }
  if (low >= 0xD800 && low <= 0xDFFF) low = 0xE000;
  if (high >= 0xD800 && high <= 0xDFFF) high = 0xD7FF;
  high = std::min(high, kLast);
  if (low > high) return;
  // Those that the new one touches become part of it.
  const auto begins = [](const Interval& interval, uint32_t value) {
    return interval.second + 1 < value;
  };
  const auto first = std::lower_bound(intervals_.begin(), intervals_.end(), low, begins);
  auto last = first;
  for (; last != intervals_.end() && last->first <= high + 1; ++last) {
    low = std::min(low, last->first);
    high = std::max(high, last->second);
  }
  intervals_.insert(intervals_.erase(first, last), {low, high});
}

void CodePointSet::Add(const CodePointSet& other) {
  for (const Interval& interval : other.intervals_) Add(interval.first, interval.second);
}

CodePointSet CodePointSet::Minus(const CodePointSet& other) const {
  CodePointSet out;
  for (auto [low, high] : intervals_) {
    for (const Interval& cut : other.intervals_) {
      if (cut.second < low || cut.first > high) continue;
      if (cut.first > low) out.Add(low, cut.first - 1);
      low = cut.second + 1;
    }
    if (low <= high) out.Add(low, high);
  }
  return out;
}

bool CodePointSet::Contains(uint32_t code_point) const {
  return std::any_of(intervals_.begin(), intervals_.end(), [&](const Interval& interval) {
    return interval.first <= code_point && code_point <= interval.second;
  });
}

Grammar::Expr Utf8Of(const CodePointSet& set, Grammar* grammar) {
  std::vector<Grammar::Expr> pieces;
  for (const auto& [low, high] : set.intervals()) AddPieces(low, high, grammar, &pieces);
  return grammar->Choice(std::move(pieces));
}

std::string EncodeUtf8(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  const auto more = [&](int shift) { return byte(0x80 | ((c >> shift) & 0x3F)); };
  if (c <= 0x7F) return {byte(c)};
  if (c <= 0x7FF) return {byte(0xC0 | (c >> 6)), more(0)};
  if (c <= 0xFFFF) return {byte(0xE0 | (c >> 12)), more(6), more(0)};
  return {byte(0xF0 | (c >> 18)), more(12), more(6), more(0)};
}

std::vector<uint32_t> DecodeUtf8(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = NextUtf8(text, pos).length;
    const auto first = static_cast<uint8_t>(text[pos]);
    uint32_t value = length == 1 ? first : first & (0x7Fu >> length);
    for (size_t i = 1; i < length; ++i) {
      value = (value << 6) | (static_cast<uint8_t>(text[pos + i]) & 0x3F);
    }
    out.push_back(value);
    pos += length;
  }
  return out;
}

}  // namespace pregate
