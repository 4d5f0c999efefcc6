// The two ways of SentencePiece to cut a normalised text into pieces.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "common/model/tokenizer/sentencepiece_vocab.h"

namespace pregate {

// Immutable; thread-safe. The vocabulary outlives it.
class SentencePieceSegmenter {
 public:
  virtual ~SentencePieceSegmenter() = default;
  // REQUIRES: text.size() < 2^32 - 1.
  virtual void Append(std::string_view text, std::vector<TokenId>* ids) const = 0;
};

// Merges neighbours into pieces, the highest score first and of equal scores the leftmost (Sennrich
// et al., ACL 2016, with scores for ranks). n bytes take O(n log n).
std::unique_ptr<SentencePieceSegmenter> MakeBpeSegmenter(const SentencePieceVocabulary* vocab);

// The pieces with the largest sum of log-probabilities, by Viterbi (Kudo, ACL 2018). n bytes take
// O(n p), p being the length of the longest piece.
std::unique_ptr<SentencePieceSegmenter> MakeUnigramSegmenter(const SentencePieceVocabulary* vocab);

}  // namespace pregate
