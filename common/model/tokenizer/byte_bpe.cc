#include <array>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/model/tokenizer/bpe_merges.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"

namespace pregate {
namespace {

class ByteBpe final : public WordModel {
 public:
  ByteBpe(const PipelineTokenizerSpec& spec, BpeMerges merges)
      : merges_(std::move(merges)),
        unknown_(spec.unknown.value_or(kAbsent)),
        fuse_unknown_(spec.fuse_unknown),
        ignore_merges_(spec.ignore_merges) {
    byte_ids_.fill(kAbsent);
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      AddToken(spec.tokens[id], static_cast<TokenId>(id));
    }
  }

  void Append(std::string_view word, std::vector<TokenId>* ids) const override {
    if (ignore_merges_) {
      const auto whole = whole_words_.find(absl::string_view(word.data(), word.size()));
      if (whole != whole_words_.end()) return ids->push_back(whole->second);
    }
    std::vector<TokenId> symbols;
    symbols.reserve(word.size());
    bool after_unknown = false;
    for (const char c : word) {
      TokenId id = byte_ids_[static_cast<uint8_t>(c)];
      const bool is_unknown = id == kAbsent;
      if (is_unknown) id = unknown_;
      const bool fused = is_unknown && fuse_unknown_ && after_unknown;
      after_unknown = is_unknown;
      if (id != kAbsent && !fused) symbols.push_back(id);
    }
    merges_.Append(symbols, ids);
  }

 private:
  static constexpr TokenId kAbsent = -1;

  // No text becomes a token that is spelled in other characters.
  void AddToken(const std::string& text, TokenId id) {
    if (text.empty() || (!ignore_merges_ && text.size() > 2)) return;
    const std::optional<std::string> bytes = BytesFromAlphabet(text);
    if (!bytes) return;
    if (ignore_merges_) whole_words_.emplace(*bytes, id);
    if (bytes->size() == 1) byte_ids_[static_cast<uint8_t>(bytes->front())] = id;
  }

  const BpeMerges merges_;
  const TokenId unknown_;  // kAbsent where there is none
  const bool fuse_unknown_, ignore_merges_;
  std::array<TokenId, 256> byte_ids_;                      // kAbsent where the vocabulary lacks one
  absl::flat_hash_map<std::string, TokenId> whole_words_;  // by bytes, where merges are ignored
};

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeByteBpe(const PipelineTokenizerSpec& spec,
                                                       const TokenIds& ids) {
  ASSIGN_OR_RETURN(BpeMerges merges, BpeMerges::Make(spec, ids));
  return std::make_unique<ByteBpe>(spec, std::move(merges));
}

}  // namespace pregate
