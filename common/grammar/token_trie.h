// The bytes of a vocabulary's tokens as a trie, so that tokens with a common beginning are looked at
// together.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// Holds every token that stands for bytes of a text, and no other: special tokens, those that end a
// text or a turn, and those without bytes are left out, so that no mask ever allows them. Immutable;
// thread-safe.
class TokenTrie {
 public:
  using Node = int32_t;  // in order of a walk depth first; 0 is the root
  static constexpr Node kRoot = 0;

  // `vocab_size`: the model's, which may have more ids than its tokenizer, or fewer.
  TokenTrie(const Tokenizer& tokenizer, int vocab_size);
  // Tokens by id, as if of a tokenizer; empty ones are left out.
  TokenTrie(absl::Span<const std::string> tokens, std::vector<TokenId> end_tokens);

  int vocab_size() const { return vocab_size_; }
  size_t mask_words() const { return (static_cast<size_t>(vocab_size_) + 31) / 32; }
  absl::Span<const TokenId> end_tokens() const { return end_tokens_; }
  // Bytes that are a token by themselves: with these any text can be spelled.
  const std::bitset<256>& alphabet() const { return alphabet_; }

  int depth_max() const { return depth_max_; }  // bytes of the longest token
  int num_nodes() const { return static_cast<int>(bytes_.size()); }
  uint8_t byte(Node node) const { return bytes_[node]; }
  int depth(Node node) const { return depths_[node]; }
  // One past the last node below `node`; node + 1 where there is none.
  Node end(Node node) const { return ends_[node]; }
  bool has_children(Node node) const { return ends_[node] > node + 1; }
  // The tokens that end at `node`.
  absl::Span<const TokenId> tokens(Node node) const {
    return absl::MakeConstSpan(ids_).subspan(first_id_[node],
                                             first_id_[node + 1] - first_id_[node]);
  }

 private:
  using Entry = std::pair<std::string_view, TokenId>;
  void Build(std::vector<Entry> entries);
  void AddNode(uint8_t byte, int depth);

  int vocab_size_;
  std::vector<TokenId> end_tokens_;
  std::bitset<256> alphabet_;
  int depth_max_ = 0;
  std::vector<uint8_t> bytes_;
  std::vector<int32_t> depths_;  // bytes from the root
  std::vector<Node> ends_;
  std::vector<int32_t> first_id_;  // [nodes + 1] into ids_
  std::vector<TokenId> ids_;
};

}  // namespace pregate
