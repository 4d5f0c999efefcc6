// The "post_processor" of a tokenizer.json: whether it puts bos before a text.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/ids.h"
#include "common/base/json.h"

namespace pregate {

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
