#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/byte_tokens.h"
#include "common/model/tokenizer/prefix_index.h"

namespace pregate {
namespace {

constexpr double kPenaltyOfUnknown = 10;  // below the worst token, as in the package

class Unigram final : public WordModel {
 public:
  Unigram(const PipelineTokenizerSpec& spec, const TokenIds& text_ids)
      : scores_(spec.scores),
        byte_tokens_(text_ids),
        byte_fallback_(spec.byte_fallback),
        unknown_(*spec.unknown),
        unknown_score_(*std::min_element(scores_.begin(), scores_.end()) - kPenaltyOfUnknown) {
    for (const auto& [text, id] : text_ids) {
      index_.Add(text, static_cast<size_t>(id));
      ids_.emplace(text, id);
    }
    index_.Build();
  }

  // Scores are summed in doubles from left to right and the first of equal paths stays, so that
  // near ties fall as in the package.
  void Append(std::string_view word, std::vector<TokenId>* ids) const override {
    std::vector<Node> best(word.size() + 1);
    for (uint32_t begin = 0; begin < word.size();) {
      const auto length = static_cast<uint32_t>(NextUtf8(word, begin).length);
      const double score = best[begin].score;
      bool has_character = false;
      index_.ForEachPrefix(word.substr(begin), [&](const PrefixIndex::Match& match) {
        Offer(static_cast<TokenId>(match.value), score + scores_[match.value], begin,
              &best[begin + match.length]);
        has_character |= match.length == length;
      });
      if (!has_character) Offer(unknown_, score + unknown_score_, begin, &best[begin + length]);
      begin += length;
    }
    AppendPath(word, best, ids);
  }

 private:
  static constexpr uint32_t kUnreached = UINT32_MAX;
  struct Node {  // the best path that ends here, by its last token
    double score = 0;
    uint32_t begin = kUnreached;
    TokenId id = 0;
  };

  static void Offer(TokenId id, double score, uint32_t begin, Node* node) {
    if (node->begin == kUnreached || score > node->score) *node = {score, begin, id};
  }

  // Neighbours that are unknown are one stretch.
  void AppendPath(std::string_view word, const std::vector<Node>& best,
                  std::vector<TokenId>* ids) const {
    std::vector<std::string_view> parts;
    bool after_unknown = false;
    for (auto end = static_cast<uint32_t>(word.size()); end > 0; end = best[end].begin) {
      const uint32_t begin = best[end].begin;
      const bool is_unknown = best[end].id == unknown_;
      if (is_unknown && after_unknown) {
        parts.back() = word.substr(begin, end - begin + parts.back().size());
      } else {
        parts.push_back(word.substr(begin, end - begin));
      }
      after_unknown = is_unknown;
    }
    for (size_t i = parts.size(); i-- > 0;) AppendPart(parts[i], ids);
  }

  void AppendPart(std::string_view part, std::vector<TokenId>* ids) const {
    const auto it = ids_.find(absl::string_view(part.data(), part.size()));
    if (it != ids_.end()) {
      ids->push_back(it->second);
    } else if (!byte_fallback_ || !byte_tokens_.Append(part, ids)) {
      ids->push_back(unknown_);
    }
  }

  const std::vector<double> scores_;  // by id
  const ByteTokens byte_tokens_;
  const bool byte_fallback_;
  const TokenId unknown_;
  const double unknown_score_;
  PrefixIndex index_;  // ids by text
  absl::flat_hash_map<std::string, TokenId> ids_;
};

absl::Status CheckScores(const PipelineTokenizerSpec& spec) {
  if (spec.scores.size() != spec.tokens.size() || !spec.merges.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("scores: ", spec.scores.size(), " for ", spec.tokens.size(), " tokens and ",
                     spec.merges.size(), " merges; a unigram model has no merges"));
  }
  for (size_t id = 0; id < spec.scores.size(); ++id) {
    if (std::isfinite(spec.scores[id])) continue;
    return absl::InvalidArgumentError(absl::StrCat("score of token ", id, " is not finite"));
  }
  if (spec.unknown && static_cast<size_t>(*spec.unknown) < spec.tokens.size()) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError("a unigram model without an unknown token is not supported");
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeUnigram(const PipelineTokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckScores(spec));
  absl::flat_hash_set<TokenId> special;
  for (const AddedToken& token : spec.added) {
    if (token.special) special.insert(token.id);
  }
  TokenIds text_ids;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!spec.tokens[i].empty() && !special.contains(id)) text_ids.emplace(spec.tokens[i], id);
  }
  return std::make_unique<Unigram>(spec, text_ids);
}

}  // namespace pregate
