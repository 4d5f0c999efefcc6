// Guesses what follows a text from the text itself (prompt lookup): where the longest suffix of it
// stands earlier, it goes on as it did there.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate::scheduler {

// Follows one sequence, whose tokens only ever grow. Not thread-safe. Time of a token: constant.
// Memory: about 20 bytes a token.
class NgramDrafter {
 public:
  // Where the text stood before, and for how long it was the same there.
  struct Guess {
    int32_t source = -1;  // position of the guessed token; -1: no guess
    int32_t match = 0;    // equal tokens before it, kMatchMin to kMatchMax
    explicit operator bool() const { return source >= 0; }
  };

  // Takes tokens[num_followed()], the next one. Returns the guess that was made of it, which may
  // be none or wrong.
  Guess Follow(absl::Span<const TokenId> tokens);
  int32_t num_followed() const { return static_cast<int32_t>(before_.size()); }

  // Of the token behind those that were followed.
  const Guess& guess() const { return guess_; }
  // The guessed token and those behind it, `count` in all. What would be copied from beyond the end
  // repeats. REQUIRES: guess(); tokens as they were followed.
  std::vector<TokenId> Tokens(absl::Span<const TokenId> tokens, int32_t count) const;

  static constexpr int32_t kMatchMin = 2;
  static constexpr int32_t kMatchMax = 32;

 private:
  Guess Find(absl::Span<const TokenId> tokens) const;
  static int32_t CommonSuffix(absl::Span<const TokenId> tokens, int32_t a, int32_t b);

  // Pairs of neighbours by their second token's position: the last of each pair, and the one
  // before each (-1: none).
  absl::flat_hash_map<uint64_t, int32_t> last_;
  std::vector<int32_t> before_;
  Guess guess_;
};

}  // namespace pregate::scheduler
