#include <algorithm>
#include <array>
#include <cfloat>
#include <cstdint>

#include "common/base/utf8.h"
#include "common/model/tokenizer/sentencepiece_segmenter.h"

namespace pregate {
namespace {

constexpr float kUnknownPenalty = 10;        // below the worst piece, as in the library
constexpr double kUserDefinedPenalty = 0.1;  // so that one is better than two that it holds

class UnigramSegmenter final : public SentencePieceSegmenter {
 public:
  explicit UnigramSegmenter(const SentencePieceVocabulary* vocab) : vocab_(vocab) {
    float score_min = FLT_MAX;
    for (const TokenId id : vocab->text_ids()) {
      if (vocab->type(id) != PieceType::kNormal) continue;
      score_min = std::min(score_min, vocab->score(id));
      score_max_ = std::max(score_max_, vocab->score(id));
    }
    unknown_score_ = score_min - kUnknownPenalty;
    for (int byte = 0; byte < 256; ++byte) first_byte_[byte] = Narrow(All(), 0, byte);
  }

  // Scores are summed in floats from left to right and the first of equal paths stays, so that
  // near ties fall as in the library.
  void Append(std::string_view text, std::vector<TokenId>* ids) const override {
    std::vector<Node> best(text.size() + 1);
    for (uint32_t begin = 0; begin < text.size();) {
      const auto length = static_cast<uint32_t>(NextUtf8(text, begin).length);
      const float score = best[begin].score;
      const bool has_character = AddPieces(text, begin, length, best.data());
      if (!has_character) Offer(kUnknown, score + unknown_score_, begin, &best[begin + length]);
      begin += length;
    }
    AppendPath(text, best, ids);
  }

 private:
  static constexpr TokenId kUnknown = -1;
  static constexpr uint32_t kUnreached = UINT32_MAX;
  struct Node {  // the best path that ends here, by its last piece
    float score = 0;
    uint32_t begin = kUnreached;
    TokenId id = kUnknown;
  };
  struct Range {  // of text_ids(), whose pieces begin alike
    uint32_t begin, end;
  };

  static void Offer(TokenId id, double score, uint32_t begin, Node* node) {
    if (node->begin != kUnreached && score <= node->score) return;
    *node = {static_cast<float>(score), begin, id};
  }

  Range All() const { return {0, static_cast<uint32_t>(vocab_->text_ids().size())}; }

  // The pieces of `range` that have `byte` at `depth`; they are equal before it and sorted.
  Range Narrow(Range range, uint32_t depth, int byte) const {
    const auto& ids = vocab_->text_ids();
    const auto at = [&](TokenId id) {
      const std::string& text = vocab_->text(id);
      return depth < text.size() ? static_cast<int>(static_cast<uint8_t>(text[depth])) : -1;
    };
    const auto low = std::partition_point(ids.begin() + range.begin, ids.begin() + range.end,
                                          [&](TokenId id) { return at(id) < byte; });
    const auto high = std::partition_point(low, ids.begin() + range.end,
                                           [&](TokenId id) { return at(id) <= byte; });
    return {static_cast<uint32_t>(low - ids.begin()), static_cast<uint32_t>(high - ids.begin())};
  }

  // A user-defined piece of `size` bytes costs next to nothing where the others' scores are
  // log-probabilities. Still a piece that reaches over it may be better than it and its neighbours.
  double Score(TokenId id, uint32_t size) const {
    if (vocab_->type(id) != PieceType::kUserDefined) return double{vocab_->score(id)};
    return static_cast<float>(size) * score_max_ - kUserDefinedPenalty;
  }

  // Offers every piece that begins at `begin`. Whether one is the character there alone.
  bool AddPieces(std::string_view text, uint32_t begin, uint32_t character_length,
                 Node* best) const {
    bool has_character = false;
    Range range = first_byte_[static_cast<uint8_t>(text[begin])];
    for (uint32_t depth = 1; range.begin < range.end; ++depth) {
      const TokenId id = vocab_->text_ids()[range.begin];
      if (vocab_->text(id).size() == depth && !vocab_->is_unused(id)) {
        Offer(id, Score(id, depth) + double{best[begin].score}, begin, &best[begin + depth]);
        has_character |= depth == character_length;
      }
      if (begin + depth == text.size()) break;
      range = Narrow(range, depth, static_cast<uint8_t>(text[begin + depth]));
    }
    return has_character;
  }

  void AppendPath(std::string_view text, const std::vector<Node>& best,
                  std::vector<TokenId>* ids) const {
    std::vector<uint32_t> ends;
    for (auto end = static_cast<uint32_t>(text.size()); end > 0; end = best[end].begin) {
      ends.push_back(end);
    }
    for (size_t i = ends.size(); i-- > 0;) {
      const Node& node = best[ends[i]];
      if (node.id == kUnknown) {
        vocab_->AppendUnknown(text.substr(node.begin, ends[i] - node.begin), ids);
      } else {
        ids->push_back(node.id);
      }
    }
  }

  const SentencePieceVocabulary* const vocab_;
  float unknown_score_;
  float score_max_ = FLT_MIN;  // of normal pieces, as the library counts it: above zero
  std::array<Range, 256> first_byte_;
};

}  // namespace

std::unique_ptr<SentencePieceSegmenter> MakeUnigramSegmenter(const SentencePieceVocabulary* vocab) {
  return std::make_unique<UnigramSegmenter>(vocab);
}

}  // namespace pregate
