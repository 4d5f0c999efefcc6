#include "common/model/tokenizer/tokenizer_vocab.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"

namespace pregate {
namespace {

constexpr TokenId kAbsent = -1;
constexpr size_t kMergesMax = size_t{1} << 22;  // pairs

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

std::string TokenExcerpt(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 64))), "\"");
}

absl::Status CheckId(const char* field, std::optional<TokenId> id, size_t vocab_size) {
  if (!id || (*id >= 0 && static_cast<size_t>(*id) < vocab_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", *id, " is outside the vocabulary of ", vocab_size));
}

absl::Status CheckToken(size_t id, const std::string& text) {
  if (text.size() <= kTokenTextBytesMax && IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("token ", id, " ", TokenExcerpt(text), " of ",
                                                 text.size(), " bytes: expected UTF-8 of at most ",
                                                 kTokenTextBytesMax, " bytes"));
}

absl::Status Duplicate(size_t id, TokenId other, const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("token ", id, " ", TokenExcerpt(text), " is token ", other, " too"));
}

absl::Status CheckFields(const BpeTokenizerSpec& spec) {
  size_t vocab_size = spec.tokens.size();
  for (const AddedToken& token : spec.added) {
    vocab_size = std::max(vocab_size, static_cast<size_t>(token.id) + 1);
  }
  if (vocab_size == 0 || vocab_size > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens: ", vocab_size, ", expected 1 to ", kVocabSizeMax));
  }
  if (spec.merges.size() > kMergesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("merges: ", spec.merges.size(), ", expected at most ", kMergesMax));
  }
  RETURN_IF_ERROR(CheckId("bos", spec.bos, vocab_size));
  RETURN_IF_ERROR(CheckId("eos", spec.eos, vocab_size));
  RETURN_IF_ERROR(CheckId("unknown", spec.unknown, vocab_size));
  if (spec.add_bos && !spec.bos) {
    return absl::InvalidArgumentError("add_bos is set, but there is no bos token");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeVocabulary> BpeVocabulary::Build(const BpeTokenizerSpec& spec) {
  BpeVocabulary vocab;
  ASSIGN_OR_RETURN(vocab.added_, AddedTokens::Make(spec.added));
  RETURN_IF_ERROR(CheckFields(spec));
  vocab.unknown_id_ = spec.unknown.value_or(kAbsent);
  vocab.fuse_unknown_ = spec.fuse_unknown;
  RETURN_IF_ERROR(vocab.AddTokens(spec));
  vocab.PlaceAdded(spec);
  return vocab;
}

// The model's own tokens and merges, by text: what is not spelled in the alphabet takes part too,
// though no text leads to it.
absl::Status BpeVocabulary::AddTokens(const BpeTokenizerSpec& spec) {
  absl::flat_hash_map<std::string_view, TokenId> ids;
  special_.assign(spec.tokens.size(), true);
  bytes_.resize(spec.tokens.size());
  byte_ids_.fill(kAbsent);
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const std::string& text = spec.tokens[i];
    RETURN_IF_ERROR(CheckToken(i, text));
    if (text.empty()) continue;
    const TokenId id = static_cast<TokenId>(i);
    const auto [other, added] = ids.emplace(text, id);
    if (!added) return Duplicate(i, other->second, text);
    special_[i] = false;
    const std::optional<std::string> bytes = BytesFromAlphabet(text);
    bytes_[i] = bytes.value_or(text);
    if (!bytes) continue;
    normal_ids_.emplace(*bytes, id);
    if (bytes->size() == 1) byte_ids_[static_cast<uint8_t>(bytes->front())] = id;
  }
  return AddMerges(spec, ids);
}

absl::Status BpeVocabulary::AddMerges(const BpeTokenizerSpec& spec,
                                      const absl::flat_hash_map<std::string_view, TokenId>& ids) {
  const auto find = [&](const std::string& text) {
    const auto it = ids.find(text);
    return it == ids.end() ? std::nullopt : std::optional(it->second);
  };
  for (const auto& [left, right] : spec.merges) {
    const auto left_id = find(left), right_id = find(right), result = find(left + right);
    if (!left_id || !right_id || !result) {
      return absl::InvalidArgumentError(absl::StrCat(
          "merge ", merges_.size(), " of ", TokenExcerpt(left), " and ", TokenExcerpt(right), ": ",
          !left_id    ? "the left"
          : !right_id ? "the right"
                      : "the merged",
          " text is not a token"));
    }
    // Of two equal merges the first has the lower rank and is the one that counts.
    ranks_.emplace(PairKey(*left_id, *right_id), static_cast<uint32_t>(merges_.size()));
    merges_.push_back({*left_id, *right_id, *result});
  }
  return absl::OkStatus();
}

// An added token's text counts for its id, whatever the model's own vocabulary has there. It goes
// through the alphabet too, as in the `tokenizers` package.
void BpeVocabulary::PlaceAdded(const BpeTokenizerSpec& spec) {
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= bytes_.size()) {
      bytes_.resize(id + 1);
      special_.resize(id + 1, true);
    }
    special_[id] = token.special;
    bytes_[id] = token.special ? "" : BytesFromAlphabet(token.text).value_or(token.text);
  }
}

std::optional<TokenId> BpeVocabulary::NormalId(std::string_view bytes) const {
  const auto it = normal_ids_.find(absl::string_view(bytes.data(), bytes.size()));
  return it == normal_ids_.end() ? std::nullopt : std::optional(it->second);
}

// A word under merging: a linked list of tokens and a queue of the pairs that may merge. A queued
// pair is stale when either token has changed since; it is then skipped.
struct BpeVocabulary::Word {
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Symbol {
    TokenId id;
    uint32_t prev, next;
  };

  const BpeVocabulary& vocab;
  std::vector<Symbol> symbols;
  // rank * 2^32 + index of the left symbol: the order of merging is the order of numbers.
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> pairs;

  void Queue(uint32_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const uint64_t key = PairKey(symbols[left].id, symbols[symbols[left].next].id);
    const auto it = vocab.ranks_.find(key);
    if (it != vocab.ranks_.end()) pairs.push(uint64_t{it->second} << 32 | left);
  }

  void MergeBest() {
    const Merge& merge = vocab.merges_[pairs.top() >> 32];
    const uint32_t index = static_cast<uint32_t>(pairs.top());
    pairs.pop();
    Symbol& left = symbols[index];
    if (left.id != merge.left || left.next == kNone || symbols[left.next].id != merge.right) return;
    Symbol& right = symbols[left.next];
    left.id = merge.result;
    left.next = right.next;
    right.id = kAbsent;
    if (left.next != kNone) symbols[left.next].prev = index;
    Queue(left.prev);
    Queue(index);
  }
};

void BpeVocabulary::AppendMerged(std::string_view word, std::vector<TokenId>* out) const {
  PREGATE_CHECK(word.size() < Word::kNone);
  Word state{*this, {}, {}};
  state.symbols.reserve(word.size());
  bool after_unknown = false;
  for (const char c : word) {
    TokenId id = byte_ids_[static_cast<uint8_t>(c)];
    const bool is_unknown = id == kAbsent;
    if (is_unknown) id = unknown_id_;
    const bool fused = is_unknown && fuse_unknown_ && after_unknown;
    after_unknown = is_unknown;
    if (id == kAbsent || fused) continue;
    const auto i = static_cast<uint32_t>(state.symbols.size());
    state.symbols.push_back({id, i == 0 ? Word::kNone : i - 1, i + 1});
  }
  if (!state.symbols.empty()) state.symbols.back().next = Word::kNone;
  const auto size = static_cast<uint32_t>(state.symbols.size());
  for (uint32_t i = 0; i < size; ++i) state.Queue(i);
  while (!state.pairs.empty()) state.MergeBest();
  for (const auto& symbol : state.symbols) {
    if (symbol.id != kAbsent) out->push_back(symbol.id);
  }
}

}  // namespace pregate
