#include "common/model/tokenizer/precompiled_charsmap.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

constexpr size_t kUnitBytes = 4;
constexpr int kRulesMax = 32;  // of one text's prefixes, as in the library

// A unit of darts-clone's array.
bool UnitHasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t UnitValue(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t UnitLabel(uint32_t unit) { return unit & 0x800000FF; }
uint32_t UnitOffset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

uint32_t ReadUnit(std::string_view bytes) {
  uint32_t unit = 0;
  for (size_t i = kUnitBytes; i-- > 0;) unit = unit << 8 | static_cast<uint8_t>(bytes[i]);
  return unit;
}

}  // namespace

// Size of the trie in bytes, the trie, the strings.
absl::StatusOr<PrecompiledCharsmap> PrecompiledCharsmap::Read(std::string_view charsmap) {
  PrecompiledCharsmap out;
  const size_t size = charsmap.size() < kUnitBytes ? 0 : ReadUnit(charsmap);
  if (size == 0 || size % kUnitBytes != 0 || size > charsmap.size() - kUnitBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("precompiled_charsmap of ", charsmap.size(), " bytes: its trie has ", size));
  }
  for (size_t i = 0; i < size; i += kUnitBytes) {
    out.trie_.push_back(ReadUnit(charsmap.substr(kUnitBytes + i)));
  }
  out.normal_ = std::string(charsmap.substr(kUnitBytes + size));
  if (out.normal_.empty() || out.normal_.back() != '\0' || !IsUtf8(out.normal_)) {
    return absl::InvalidArgumentError(
        "precompiled_charsmap: its strings are not UTF-8 that ends with a zero byte");
  }
  for (size_t begin = 0; begin < out.normal_.size();) {
    const size_t end = out.normal_.find('\0', begin);
    out.rule_bytes_max_ = std::max(out.rule_bytes_max_, end - begin);
    begin = end + 1;
  }
  if (out.rule_bytes_max_ <= kRuleBytesMax) return out;
  return absl::InvalidArgumentError(absl::StrCat("precompiled_charsmap: a string of ",
                                                 out.rule_bytes_max_, " bytes, at most ",
                                                 kRuleBytesMax));
}

PrecompiledCharsmap::Rule PrecompiledCharsmap::Find(std::string_view text, bool shortest) const {
  Rule found{{}, 0};
  if (trie_.empty()) return found;
  uint32_t node = UnitOffset(trie_[0]);
  int num_rules = 0;
  for (size_t i = 0; i < text.size() && num_rules < kRulesMax; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= trie_.size() || UnitLabel(trie_[node]) != byte) break;
    const uint32_t unit = trie_[node];
    node ^= UnitOffset(unit);
    if (!UnitHasLeaf(unit)) continue;
    if (node >= trie_.size() || UnitValue(trie_[node]) >= normal_.size()) break;
    found = {normal_.c_str() + UnitValue(trie_[node]), i + 1};
    if (shortest) break;
    ++num_rules;
  }
  return found;
}

}  // namespace pregate
