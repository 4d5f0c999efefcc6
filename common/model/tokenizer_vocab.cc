#include "common/model/tokenizer_vocab.h"

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/model/limits.h"
#include "common/model/tokenizer_alphabet.h"
#include "common/model/utf8.h"

namespace pregate {
namespace {

constexpr TokenId kAbsent = -1;
constexpr size_t kMergesMax = size_t{1} << 22;  // pairs

uint64_t PairKey(TokenId left, TokenId right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

std::string Excerpt(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 64))), "\"");
}

absl::Status CheckId(const char* field, std::optional<TokenId> id, size_t vocab_size) {
  if (!id || (*id >= 0 && static_cast<size_t>(*id) < vocab_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " ", *id, " is outside the vocabulary of ", vocab_size));
}

absl::Status CheckToken(size_t id, const std::string& text) {
  if (!text.empty() && text.size() <= kTokenTextBytesMax && IsUtf8(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("token ", id, " ", Excerpt(text), " of ",
                                                 text.size(), " bytes: expected UTF-8 of 1 to ",
                                                 kTokenTextBytesMax, " bytes"));
}

absl::Status Duplicate(size_t id, TokenId other, const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("token ", id, " ", Excerpt(text), " is token ", other, " too"));
}

std::optional<TokenId> Find(const absl::flat_hash_map<std::string, TokenId>& ids,
                            std::string_view text) {
  const auto it = ids.find(absl::string_view(text.data(), text.size()));
  return it == ids.end() ? std::nullopt : std::optional(it->second);
}

absl::Status CheckFields(const BpeTokenizerSpec& spec) {
  const size_t vocab_size = spec.tokens.size();
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
  for (const TokenId id : spec.special) RETURN_IF_ERROR(CheckId("special", id, vocab_size));
  if (spec.add_bos && !spec.bos) {
    return absl::InvalidArgumentError("add_bos is set, but there is no bos token");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BpeVocabulary> BpeVocabulary::Build(const BpeTokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckFields(spec));
  BpeVocabulary vocab;
  RETURN_IF_ERROR(vocab.AddTokens(spec));
  RETURN_IF_ERROR(vocab.AddMerges(spec));
  return vocab;
}

absl::Status BpeVocabulary::AddTokens(const BpeTokenizerSpec& spec) {
  special_.assign(spec.tokens.size(), false);
  for (const TokenId id : spec.special) special_[id] = true;
  bytes_.resize(spec.tokens.size());
  byte_ids_.fill(kAbsent);
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    const std::string& text = spec.tokens[i];
    RETURN_IF_ERROR(CheckToken(i, text));
    if (special_[i]) {
      const auto [other, added] = special_ids_.emplace(text, id);
      if (!added) return Duplicate(i, other->second, text);
      continue;
    }
    std::optional<std::string> bytes = BytesFromAlphabet(text);
    if (!bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", i, " ", Excerpt(text), " is not special and not in the byte-level alphabet"));
    }
    const auto [other, added] = normal_ids_.emplace(*bytes, id);
    if (!added) return Duplicate(i, other->second, text);
    if (bytes->size() == 1) byte_ids_[static_cast<uint8_t>((*bytes)[0])] = id;
    bytes_[i] = *std::move(bytes);
  }
  return absl::OkStatus();
}

absl::Status BpeVocabulary::AddMerges(const BpeTokenizerSpec& spec) {
  const auto find = [this](std::string_view text) {
    const auto bytes = BytesFromAlphabet(text);
    return bytes ? NormalId(*bytes) : std::nullopt;
  };
  for (const auto& [left, right] : spec.merges) {
    const auto left_id = find(left), right_id = find(right), result = find(left + right);
    if (!left_id || !right_id || !result) {
      return absl::InvalidArgumentError(absl::StrCat("merge ", merges_.size(), " of ",
                                                     Excerpt(left), " and ", Excerpt(right), ": ",
                                                     !left_id    ? "the left"
                                                     : !right_id ? "the right"
                                                                 : "the merged",
                                                     " text is not a normal token"));
    }
    // Of two equal merges the first has the lower rank and is the one that counts.
    ranks_.emplace(PairKey(*left_id, *right_id), static_cast<uint32_t>(merges_.size()));
    merges_.push_back({*left_id, *right_id, *result});
  }
  return absl::OkStatus();
}

std::optional<TokenId> BpeVocabulary::SpecialId(std::string_view text) const {
  return Find(special_ids_, text);
}

std::optional<TokenId> BpeVocabulary::NormalId(std::string_view bytes) const {
  return Find(normal_ids_, bytes);
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
  const uint32_t size = static_cast<uint32_t>(word.size());
  state.symbols.reserve(size);
  for (uint32_t i = 0; i < size; ++i) {
    state.symbols.push_back({byte_ids_[static_cast<uint8_t>(word[i])], i == 0 ? Word::kNone : i - 1,
                             i + 1 == size ? Word::kNone : i + 1});
  }
  for (uint32_t i = 0; i < size; ++i) state.Queue(i);
  while (!state.pairs.empty()) state.MergeBest();
  for (const auto& symbol : state.symbols) {
    if (symbol.id != kAbsent) out->push_back(symbol.id);
  }
}

}  // namespace pregate
