#include "common/step/prefix_key.h"

#include <algorithm>
#include <bit>
#include <string>

#include "common/base/hash.h"
#include "common/base/status.h"

namespace pregate {
namespace {

PrefixKey KeyOf(std::string_view bytes) {
  return {std::bit_cast<std::array<uint64_t, 4>>(Sha256Digest(bytes))};
}

// In memory's order: a key never leaves its process.
template <typename T>
std::string_view BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

// The digest's size comes first, so no tenant's name can look like part of it.
PrefixKey EmptyPrefix(std::string_view model_digest, std::string_view tenant) {
  const auto size = static_cast<uint64_t>(model_digest.size());
  std::string bytes(BytesOf(size));
  bytes.append(model_digest).append(tenant);
  return KeyOf(bytes);
}

PrefixKey NextPrefix(const PrefixKey& parent, absl::Span<const TokenId> tokens,
                     absl::Span<const ExpertId> routes) {
  PREGATE_CHECK(tokens.size() == kKvBlockTokens && routes.size() == kKvBlockTokens, "tokens ",
                tokens.size(), " routes ", routes.size());
  struct {
    PrefixKey parent;
    std::array<TokenId, kKvBlockTokens> tokens;
    std::array<ExpertId, kKvBlockTokens> routes;
  } block;
  block.parent = parent;
  std::copy(tokens.begin(), tokens.end(), block.tokens.begin());
  std::copy(routes.begin(), routes.end(), block.routes.begin());
  return KeyOf(BytesOf(block));
}

}  // namespace pregate
