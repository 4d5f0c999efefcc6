// The merges of a byte-pair encoding, by the ids of tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/word_model.h"

namespace pregate {

// Immutable; thread-safe.
class BpeMerges {
 public:
  // InvalidArgument, naming the merge, where a part or the whole of it is no token.
  static absl::StatusOr<BpeMerges> Make(const PipelineTokenizerSpec& spec, const TokenIds& ids);

  // Appends what becomes of `symbols`: neighbours merge, the lowest rank first and of equal ranks
  // the leftmost, until no pair is a merge. n symbols take O(n log n) whatever they are.
  // REQUIRES: symbols.size() < 2^32 - 1.
  void Append(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const;

 private:
  struct Merge {
    TokenId left, right, result;
  };
  struct Chain;

  static constexpr uint32_t kNoMerge = UINT32_MAX;
  uint32_t RankOf(TokenId left, TokenId right) const;
  void AppendShort(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const;
  void AppendLong(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const;

  std::vector<Merge> merges_;                      // by rank
  absl::flat_hash_map<uint64_t, uint32_t> ranks_;  // index in merges_ by pair of ids
};

}  // namespace pregate
