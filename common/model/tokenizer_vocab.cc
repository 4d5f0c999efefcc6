#include "common/model/tokenizer_vocab.h"

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
constexpr size_t kTokenTextBytesMax = 4096;     // bytes of one token as the spec spells it

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
    ranks_.emplace(std::pair(*left_id, *right_id), static_cast<int>(merges_.size()));
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
struct BpeVocabulary::Symbols {
  static constexpr size_t kNone = static_cast<size_t>(-1);
  struct Symbol {
    TokenId id;
    size_t prev, next;
  };
  struct Pair {
    int rank;
    size_t left;
    bool operator>(const Pair& other) const {
      return std::pair(rank, left) > std::pair(other.rank, other.left);
    }
  };

  const BpeVocabulary& vocab;
  std::vector<Symbol> symbols;
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs;

  void Queue(size_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const auto it = vocab.ranks_.find(std::pair(symbols[left].id, symbols[symbols[left].next].id));
    if (it != vocab.ranks_.end()) pairs.push({it->second, left});
  }

  void MergeBest() {
    const Pair pair = pairs.top();
    pairs.pop();
    const Merge& merge = vocab.merges_[pair.rank];
    Symbol& left = symbols[pair.left];
    if (left.id != merge.left || left.next == kNone || symbols[left.next].id != merge.right) return;
    Symbol& right = symbols[left.next];
    left.id = merge.result;
    left.next = right.next;
    right.id = kAbsent;
    if (left.next != kNone) symbols[left.next].prev = pair.left;
    Queue(left.prev);
    Queue(pair.left);
  }
};

void BpeVocabulary::AppendMerged(std::string_view word, std::vector<TokenId>* out) const {
  Symbols state{*this, {}, {}};
  auto& symbols = state.symbols;
  symbols.reserve(word.size());
  for (size_t i = 0; i < word.size(); ++i) {
    const size_t next = i + 1 < word.size() ? i + 1 : Symbols::kNone;
    symbols.push_back({byte_ids_[static_cast<uint8_t>(word[i])], i - 1, next});
  }
  for (size_t i = 0; i < symbols.size(); ++i) state.Queue(i);
  while (!state.pairs.empty()) state.MergeBest();
  for (const auto& symbol : symbols) {
    if (symbol.id != kAbsent) out->push_back(symbol.id);
  }
}

}  // namespace pregate
