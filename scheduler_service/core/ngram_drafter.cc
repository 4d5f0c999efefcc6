#include "scheduler_service/core/ngram_drafter.h"

#include <algorithm>
#include <utility>

namespace pregate::scheduler {
namespace {

constexpr int kPlacesMax = 16;  // looked at for one guess, the latest first

uint64_t PairAt(absl::Span<const TokenId> tokens, int32_t second) {
  return uint64_t{static_cast<uint32_t>(tokens[second - 1])} << 32 |
         static_cast<uint32_t>(tokens[second]);
}

}  // namespace

NgramDrafter::Guess NgramDrafter::Follow(absl::Span<const TokenId> tokens) {
  const int32_t position = num_followed();
  const Guess made = guess_;
  int32_t before = -1;
  if (position > 0) {
    const auto [it, is_new] = last_.try_emplace(PairAt(tokens, position), position);
    if (!is_new) before = std::exchange(it->second, position);
  }
  before_.push_back(before);
  if (made && tokens[made.source] == tokens[position]) {
    guess_ = {made.source + 1, std::min(made.match + 1, kMatchMax)};
  } else {
    guess_ = Find(tokens);
  }
  return made;
}

NgramDrafter::Guess NgramDrafter::Find(absl::Span<const TokenId> tokens) const {
  const int32_t end = num_followed() - 1;
  Guess longest;
  int32_t place = before_[end];
  for (int i = 0; i < kPlacesMax && place >= 0; ++i, place = before_[place]) {
    const int32_t match = CommonSuffix(tokens, place, end);
    if (match > longest.match) longest = {place + 1, match};
  }
  return longest;
}

// Of the texts that end at a and b; at most kMatchMax.
int32_t NgramDrafter::CommonSuffix(absl::Span<const TokenId> tokens, int32_t a, int32_t b) {
  int32_t length = 0;
  while (length < kMatchMax && length <= a && tokens[a - length] == tokens[b - length]) ++length;
  return length;
}

std::vector<TokenId> NgramDrafter::Tokens(absl::Span<const TokenId> tokens, int32_t count) const {
  std::vector<TokenId> guessed;
  guessed.reserve(count);
  const int32_t known = num_followed() - guess_.source;
  for (int32_t i = 0; i < count; ++i) {
    guessed.push_back(i < known ? tokens[guess_.source + i] : guessed[i - known]);
  }
  return guessed;
}

}  // namespace pregate::scheduler
