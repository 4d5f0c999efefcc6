// A checked byte-level BPE vocabulary: tokens as bytes, added tokens, merges by id.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// Immutable after Build; thread-safe.
class BpeVocabulary {
 public:
  // Checks tokens, added tokens, bos, eos, unknown and merges of `spec`.
  static absl::StatusOr<BpeVocabulary> Build(const BpeTokenizerSpec& spec);

  int size() const { return static_cast<int>(bytes_.size()); }
  bool Contains(TokenId id) const { return id >= 0 && id < size(); }
  bool IsSpecial(TokenId id) const { return !Contains(id) || special_[id]; }
  std::string_view Bytes(TokenId id) const {
    return Contains(id) ? std::string_view(bytes_[id]) : std::string_view();
  }
  const AddedTokens& added() const { return added_; }
  std::optional<TokenId> NormalId(std::string_view bytes) const;  // of the model's own vocabulary

  // Appends the tokens of one word: its bytes, merged pair by pair, the lowest rank first and of
  // equal ranks the leftmost, until no pair is a merge. n bytes take O(n log n) whatever they are.
  // REQUIRES: word.size() < 2^32 - 1.
  void AppendMerged(std::string_view word, std::vector<TokenId>* out) const;

 private:
  struct Merge {
    TokenId left, right, result;
  };
  struct Word;

  BpeVocabulary() = default;
  absl::Status AddTokens(const BpeTokenizerSpec& spec);
  void PlaceAdded(const BpeTokenizerSpec& spec);
  absl::Status AddMerges(const BpeTokenizerSpec& spec,
                         const absl::flat_hash_map<std::string_view, TokenId>& ids);

  std::vector<std::string> bytes_;  // by id; empty for special tokens and ids without one
  std::vector<bool> special_;       // by id; ids without a token among them
  AddedTokens added_;
  absl::flat_hash_map<std::string, TokenId> normal_ids_;  // by bytes
  std::array<TokenId, 256> byte_ids_;                     // kAbsent where the vocabulary lacks one
  TokenId unknown_id_;                                    // kAbsent where there is none
  bool fuse_unknown_ = false;
  std::vector<Merge> merges_;                      // by rank
  absl::flat_hash_map<uint64_t, uint32_t> ranks_;  // index in merges_ by pair of ids
};

}  // namespace pregate
