#include <cstdint>
#include <queue>

#include "absl/container/flat_hash_map.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/sentencepiece_segmenter.h"

namespace pregate {
namespace {

// A text under merging: a linked list of symbols, which are characters at first, and a queue of the
// pairs that may merge. A queued pair is stale when either symbol has changed since; it is then
// skipped. A user-defined piece is a symbol from the beginning and never merges.
class MergingText {
 public:
  MergingText(std::string_view text, const SentencePieceVocabulary& vocab)
      : text_(text), vocab_(vocab) {
    for (uint32_t pos = 0; pos < text.size();) {
      const auto piece = vocab.UserDefinedAt(text.substr(pos));
      const auto size =
          static_cast<uint32_t>(piece ? vocab.text(*piece).size() : NextUtf8(text, pos).length);
      const auto index = static_cast<uint32_t>(symbols_.size());
      symbols_.push_back({pos, size, index == 0 ? kNone : index - 1, index + 1, piece.has_value()});
      pos += size;
    }
    if (!symbols_.empty()) symbols_.back().next = kNone;
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) Queue(i, i + 1);
  }

  void Merge() {
    while (!pairs_.empty()) {
      const Pair pair = pairs_.top();
      pairs_.pop();
      Symbol& left = symbols_[pair.left];
      Symbol& right = symbols_[pair.right];
      if (left.size == 0 || right.size == 0 || left.size + right.size != pair.size) continue;
      left.size = pair.size;
      right.size = 0;
      left.next = right.next;
      if (left.next != kNone) symbols_[left.next].prev = pair.left;
      if (left.prev != kNone) Queue(left.prev, pair.left);
      if (left.next != kNone) Queue(pair.left, left.next);
    }
  }

  void Append(std::vector<TokenId>* ids) const {
    for (uint32_t i = symbols_.empty() ? kNone : 0; i != kNone; i = symbols_[i].next) {
      AppendPiece(text_.substr(symbols_[i].begin, symbols_[i].size), ids);
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Symbol {
    uint32_t begin, size;  // in the text; size 0: merged into the one before it
    uint32_t prev, next;
    bool is_user_defined;
  };
  struct Pair {
    float score;
    uint32_t left, right;
    uint32_t size;  // of both when queued
    bool operator<(const Pair& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  void Queue(uint32_t left, uint32_t right) {
    if (symbols_[left].is_user_defined || symbols_[right].is_user_defined) return;
    const uint32_t size = symbols_[left].size + symbols_[right].size;
    const auto id = vocab_.TextId(text_.substr(symbols_[left].begin, size));
    if (!id) return;
    pairs_.push({vocab_.score(*id), left, right, size});
    if (vocab_.is_unused(*id)) left_part_[*id] = symbols_[left].size;
  }

  // An unused piece falls back into the two that could make it where it was last queued, be that
  // elsewhere in the text, as in the library.
  void AppendPiece(std::string_view piece, std::vector<TokenId>* ids) const {
    const auto id = vocab_.TextId(piece);
    if (!id) return vocab_.AppendUnknown(piece, ids);
    const auto part = vocab_.is_unused(*id) ? left_part_.find(*id) : left_part_.end();
    if (part == left_part_.end()) return ids->push_back(*id);
    AppendPiece(piece.substr(0, part->second), ids);
    AppendPiece(piece.substr(part->second), ids);
  }

  const std::string_view text_;
  const SentencePieceVocabulary& vocab_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Pair> pairs_;
  absl::flat_hash_map<TokenId, uint32_t> left_part_;  // bytes, by unused piece
};

class BpeSegmenter final : public SentencePieceSegmenter {
 public:
  explicit BpeSegmenter(const SentencePieceVocabulary* vocab) : vocab_(vocab) {}

  // Where words stand alone, they merge each for itself; one that has come before is copied from
  // where its tokens lie in `ids`.
  void Append(std::string_view text, std::vector<TokenId>* ids) const override {
    if (!vocab_->words_stand_alone()) return AppendMerged(text, ids);
    struct Range {
      size_t begin, end;
    };
    absl::flat_hash_map<std::string_view, Range> seen;
    while (!text.empty()) {
      const std::string_view word = text.substr(0, WordLength(text));
      text.remove_prefix(word.size());
      const size_t begin = ids->size();
      const auto [it, is_new] = seen.try_emplace(word);
      if (is_new) {
        AppendMerged(word, ids);
        it->second = {begin, ids->size()};
      } else {
        for (size_t i = it->second.begin; i < it->second.end; ++i) ids->push_back((*ids)[i]);
      }
    }
  }

 private:
  // A run of spaces and what follows up to the next one.
  static size_t WordLength(std::string_view text) {
    size_t pos = 0;
    while (text.substr(pos).starts_with(kSpacePiece)) pos += kSpacePiece.size();
    const size_t end = text.find(kSpacePiece, pos);
    return end == std::string_view::npos ? text.size() : end;
  }

  void AppendMerged(std::string_view text, std::vector<TokenId>* ids) const {
    MergingText merging(text, *vocab_);
    merging.Merge();
    merging.Append(ids);
  }

  const SentencePieceVocabulary* const vocab_;
};

}  // namespace

std::unique_ptr<SentencePieceSegmenter> MakeBpeSegmenter(const SentencePieceVocabulary* vocab) {
  return std::make_unique<BpeSegmenter>(vocab);
}

}  // namespace pregate
