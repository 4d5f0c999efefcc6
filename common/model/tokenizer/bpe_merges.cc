#include "common/model/tokenizer/bpe_merges.h"

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr size_t kMergesMax = size_t{1} << 22;  // pairs
constexpr size_t kShortSymbolsMax = 32;         // up to here looking at all pairs is fastest

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

std::optional<TokenId> FindText(const TokenIds& ids, const std::string& text) {
  const auto it = ids.find(text);
  return it == ids.end() ? std::nullopt : std::optional(it->second);
}

std::string MergeExcerpt(const std::string& text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 64)), "\"");
}

absl::Status BadMerge(size_t index, const std::pair<std::string, std::string>& merge,
                      const char* part) {
  return absl::InvalidArgumentError(absl::StrCat("merge ", index, " of ", MergeExcerpt(merge.first),
                                                 " and ", MergeExcerpt(merge.second), ": the ",
                                                 part, " text is not a token"));
}

}  // namespace

absl::StatusOr<BpeMerges> BpeMerges::Make(const PipelineTokenizerSpec& spec, const TokenIds& ids) {
  if (spec.merges.size() > kMergesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("merges: ", spec.merges.size(), ", expected at most ", kMergesMax));
  }
  BpeMerges out;
  out.merges_.reserve(spec.merges.size());
  out.ranks_.reserve(spec.merges.size());
  std::string whole;
  for (const auto& merge : spec.merges) {
    whole.assign(merge.first).append(merge.second);
    const auto left = FindText(ids, merge.first), right = FindText(ids, merge.second),
               result = FindText(ids, whole);
    const size_t index = out.merges_.size();
    if (!left) return BadMerge(index, merge, "left");
    if (!right) return BadMerge(index, merge, "right");
    if (!result) return BadMerge(index, merge, "merged");
    // Of two equal merges the first has the lower rank and is the one that counts.
    out.ranks_.emplace(PairKey(*left, *right), static_cast<uint32_t>(index));
    out.merges_.push_back({*left, *right, *result});
  }
  return out;
}

uint32_t BpeMerges::RankOf(TokenId left, TokenId right) const {
  const auto it = ranks_.find(PairKey(left, right));
  return it == ranks_.end() ? kNoMerge : it->second;
}

void BpeMerges::Append(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const {
  if (symbols.size() <= kShortSymbolsMax) {
    AppendShort(symbols, ids);
  } else {
    AppendLong(symbols, ids);
  }
}

void BpeMerges::AppendShort(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const {
  std::array<TokenId, kShortSymbolsMax> left;
  std::array<uint32_t, kShortSymbolsMax> rank;  // of the pair that begins here
  size_t size = symbols.size();
  std::copy(symbols.begin(), symbols.end(), left.begin());
  for (size_t i = 0; i + 1 < size; ++i) rank[i] = RankOf(left[i], left[i + 1]);
  while (size > 1) {
    const size_t best = std::min_element(rank.begin(), rank.begin() + size - 1) - rank.begin();
    if (rank[best] == kNoMerge) break;
    left[best] = merges_[rank[best]].result;
    std::copy(left.begin() + best + 2, left.begin() + size, left.begin() + best + 1);
    std::copy(rank.begin() + best + 1, rank.begin() + size - 1, rank.begin() + best);
    --size;
    if (best + 1 < size) rank[best] = RankOf(left[best], left[best + 1]);
    if (best > 0) rank[best - 1] = RankOf(left[best - 1], left[best]);
  }
  ids->insert(ids->end(), left.begin(), left.begin() + size);
}

// A linked list of tokens and a queue of the pairs that may merge. A queued pair is stale when
// either token has changed since; it is then skipped.
struct BpeMerges::Chain {
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr TokenId kGone = -1;
  struct Symbol {
    TokenId id;
    uint32_t prev, next;
  };

  const BpeMerges& merges;
  std::vector<Symbol> symbols;
  // rank * 2^32 + index of the left symbol: the order of merging is the order of numbers.
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> pairs;

  void Queue(uint32_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const uint32_t rank = merges.RankOf(symbols[left].id, symbols[symbols[left].next].id);
    if (rank != kNoMerge) pairs.push(uint64_t{rank} << 32 | left);
  }

  void MergeBest() {
    const Merge& merge = merges.merges_[pairs.top() >> 32];
    const uint32_t index = static_cast<uint32_t>(pairs.top());
    pairs.pop();
    Symbol& left = symbols[index];
    if (left.id != merge.left || left.next == kNone || symbols[left.next].id != merge.right) return;
    Symbol& right = symbols[left.next];
    left.id = merge.result;
    left.next = right.next;
    right.id = kGone;
    if (left.next != kNone) symbols[left.next].prev = index;
    Queue(left.prev);
    Queue(index);
  }
};

void BpeMerges::AppendLong(absl::Span<const TokenId> symbols, std::vector<TokenId>* ids) const {
  PREGATE_CHECK(symbols.size() < Chain::kNone);
  Chain chain{*this, {}, {}};
  const auto size = static_cast<uint32_t>(symbols.size());
  chain.symbols.reserve(size);
  for (uint32_t i = 0; i < size; ++i) {
    chain.symbols.push_back(
        {symbols[i], i == 0 ? Chain::kNone : i - 1, i + 1 == size ? Chain::kNone : i + 1});
  }
  for (uint32_t i = 0; i < size; ++i) chain.Queue(i);
  while (!chain.pairs.empty()) chain.MergeBest();
  for (const auto& symbol : chain.symbols) {
    if (symbol.id != Chain::kGone) ids->push_back(symbol.id);
  }
}

}  // namespace pregate
