// Pre-tokenization: text is cut into words before byte-pair merges, which never cross a word's end.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

// The one name of a pre-tokenizer that may be called by an alias (tokenizer.h lists them);
// Unimplemented, naming it, where it is not known.
absl::StatusOr<std::string> CanonicalPreTokenizer(std::string_view name);

// Immutable after construction; thread-safe. Time is linear in the text.
class PreTokenizer {
 public:
  // REQUIRES: a canonical name.
  static std::unique_ptr<PreTokenizer> Make(std::string_view canonical_name);
  virtual ~PreTokenizer() = default;

  // The words of `text`, in order and without gaps; they point into it.
  // REQUIRES: `text` is well-formed UTF-8.
  virtual std::vector<std::string_view> Split(std::string_view text) const = 0;
};

}  // namespace pregate
