// Names what a KV block holds: its tokens with their routes, all that stands before them, the model
// that computed them and the tenant for whom. Equal keys are equal contents; keys are SHA-256, so
// nobody can make a prompt that finds another's block (docs/CONTRACTS.md, "Prefix cache").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate {

struct PrefixKey {
  std::array<uint64_t, 4> words = {};
  bool operator==(const PrefixKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const PrefixKey& key) {
    return H::combine(std::move(h), key.words[0]);  // any of its bits is as good as another
  }
};

// Of the empty prefix: of one model, and one tenant, whose name may be any bytes.
PrefixKey EmptyPrefix(std::string_view model_digest, std::string_view tenant);

// Of `parent` and one block more. REQUIRES: kKvBlockTokens of both.
PrefixKey NextPrefix(const PrefixKey& parent, absl::Span<const TokenId> tokens,
                     absl::Span<const ExpertId> routes);

}  // namespace pregate
