// The models that make tokens of words.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// A model's own tokens by text, which point into the spec.
using TokenIds = absl::flat_hash_map<std::string_view, TokenId>;

// Immutable; thread-safe.
class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the tokens of one word. REQUIRES: 0 < word.size() < 2^32 - 1.
  virtual void Append(std::string_view word, std::vector<TokenId>* ids) const = 0;
  // Whether a word has the same tokens when it is cut before each run of U+2581.
  virtual bool words_stand_alone() const { return false; }
};

// BPE of bytes, whose tokens are spelled in the byte-level alphabet. A word is raw bytes.
absl::StatusOr<std::unique_ptr<WordModel>> MakeByteBpe(const PipelineTokenizerSpec& spec,
                                                       const TokenIds& ids);
// BPE of characters; what is no token becomes the tokens of its bytes, where byte_fallback is set
// and they are there, or the unknown token.
absl::StatusOr<std::unique_ptr<WordModel>> MakeCharacterBpe(const PipelineTokenizerSpec& spec,
                                                            const TokenIds& ids);
// The tokens with the largest sum of scores, by Viterbi (Kudo, ACL 2018); no special token is among
// them.
absl::StatusOr<std::unique_ptr<WordModel>> MakeUnigram(const PipelineTokenizerSpec& spec);

}  // namespace pregate
