// Text as SentencePiece cuts it: user-defined pieces as they are, rules of a charsmap, spaces as
// U+2581, the dummy prefix.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/precompiled_charsmap.h"
#include "common/model/tokenizer/prefix_index.h"
#include "common/model/tokenizer/sentencepiece_model.h"

namespace pregate {

// Immutable after Make; thread-safe.
class SentencePieceNormalizer {
 public:
  // InvalidArgument for a charsmap that is cut or whose rules point outside of it.
  static absl::StatusOr<SentencePieceNormalizer> Make(const SentencePieceModel& model);

  // UTF-8, whatever `text` is: a byte that belongs to no character becomes U+FFFD.
  std::string Normalise(std::string_view text) const;

 private:
  SentencePieceNormalizer() = default;
  struct Prefix {
    std::string_view normal;  // what stands for it
    size_t length;            // bytes of the text
  };
  Prefix NextPrefix(std::string_view text) const;

  PrecompiledCharsmap charsmap_;
  PrefixIndex user_defined_;  // no rule changes these
  bool add_dummy_prefix_ = false;
  bool remove_extra_whitespaces_ = false;
};

}  // namespace pregate
