// How tokenizer.json spells pre-tokenizers, decoders, and the bos token before a text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/base/json.h"

namespace pregate {

// The canonical name of the pre-tokenizer that `root` (tokenizer.json) describes. Unimplemented for
// a normalizer or a pre-tokenizer that is not known.
absl::StatusOr<std::string> PreTokenizerFromJson(const JsonObject& root);

// Unimplemented for a decoder that is not byte-level.
absl::Status CheckByteLevelDecoder(const JsonObject& root);

// The "pre_tokenizer" of a canonical name.
nlohmann::json PreTokenizerToJson(std::string_view canonical_name);

// The special token that the post-processor of `root` puts before a text; nothing where it adds
// none, Unimplemented where it does anything else.
struct FirstToken {
  std::string text;
  TokenId id;
};
absl::StatusOr<std::optional<FirstToken>> FirstTokenFromJson(const JsonObject& root);

// A post-processor that puts `first`, of the given id, before a text.
nlohmann::json FirstTokenToJson(const std::string& first, int id);

}  // namespace pregate
