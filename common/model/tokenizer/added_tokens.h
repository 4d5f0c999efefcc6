// Tokens beside a model's own vocabulary, and where they stand in a text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/model/tokenizer/marked_text.h"
#include "common/model/tokenizer/normalizer.h"
#include "common/model/tokenizer/prefix_index.h"

namespace pregate {

// As an entry of tokenizer.json's added_tokens has it.
struct AddedToken {
  TokenId id = 0;
  std::string text;
  bool special = false;      // a text neither holds it nor becomes it
  bool single_word = false;  // counts only where no letter, digit or underscore touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = false;   // is looked for in what the others leave

  bool operator==(const AddedToken&) const = default;
};

// Whether a text is what a chat template begins or ends turns with: such a token never comes from
// text, special or not, so that no message can end its turn.
bool IsTurnMarker(std::string_view text);

// Finds added tokens as the `tokenizers` package does with encode_special_tokens on: of those that
// begin at the leftmost place the longest. Immutable after Make; thread-safe.
class AddedTokens {
 public:
  AddedTokens() = default;  // none
  // InvalidArgument names a token: its text is empty, too long, no UTF-8 or another one's too.
  // `normalizer`: of texts in which `normalized` ones are looked for, in their own normal form.
  static absl::StatusOr<AddedTokens> Make(std::vector<AddedToken> tokens,
                                          const Normalizer* normalizer = nullptr);

  struct Stretch {
    std::string_view text;
    std::optional<TokenId> id;  // of the token that it is; nothing: text between tokens
  };
  // `text` from front to back, by the tokens that are not `normalized`; the stretches of tokens that
  // strip may overlap their neighbours.
  std::vector<Stretch> SplitPlain(std::string_view text) const { return Cut(plain_, text); }
  // The same by those that are, of what is left, once that is normalized.
  std::vector<Stretch> SplitNormalized(std::string_view text) const {
    return Cut(normalized_, text);
  }

  // The same for the text of a chat template: here only special tokens and turn markers count, and
  // only where all of their bytes are the template's.
  std::vector<Stretch> SplitMarked(const MarkedText& text) const;

  std::optional<TokenId> Find(std::string_view text) const;
  std::string_view TextOf(TokenId id) const;  // empty: no added token has the id
  const std::vector<AddedToken>& all() const { return tokens_; }

 private:
  std::vector<Stretch> Cut(const PrefixIndex& index, std::string_view text) const;
  void CutMarked(const PrefixIndex& index, const MarkedText& whole, std::string_view text,
                 std::vector<Stretch>* out) const;
  // Appends the token at text[begin, end), and the text between `done` and it; moves `done` behind.
  void AppendToken(const AddedToken& token, std::string_view text, size_t begin, size_t end,
                   size_t* done, std::vector<Stretch>* out) const;

  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<std::string, TokenId> ids_;
  // Indices of `tokens_`: by id; by text, by normal form, by the text of those that have one.
  absl::flat_hash_map<TokenId, size_t> by_id_;
  PrefixIndex plain_, normalized_, normalized_texts_;
};

}  // namespace pregate
