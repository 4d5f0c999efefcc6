// What tokens stand for in a text: the "decoder" of a tokenizer.json, worked out token by token.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {

struct DecodedToken {
  std::string bytes;
  std::string first_bytes;  // where the token begins a text
  TokenForm form = TokenForm::kBytes;
};

// Immutable; thread-safe.
class TokenDecoder {
 public:
  // Errors begin with `where` and name the step and the field; Unimplemented for a step that is not
  // known, and for an order of steps in which tokens' texts depend on each other in other ways than
  // Form and LeadingSpaces say.
  static absl::StatusOr<TokenDecoder> Make(const nlohmann::json& value, const std::string& where);

  LeadingSpaces leading_spaces() const { return leading_spaces_; }
  DecodedToken Decode(std::string token) const;

 private:
  // Replace and Strip of a token for itself.
  struct TextStep {
    std::shared_ptr<const TextPattern> pattern;
    std::string content;
    int64_t strip_start = 0, strip_stop = 0;  // characters; without a pattern
    std::string Apply(std::string_view token) const;
  };
  // What has been seen so far of a chain.
  enum class Stage { kTokens, kBytesJoined, kWhole, kEnd };

  absl::Status Add(const JsonStep& step, Stage* stage);
  absl::Status AddReplace(const JsonObject& step);
  absl::Status AddStrip(const JsonObject& step, Stage* stage);
  absl::Status AddMetaspace(const JsonObject& step);

  std::vector<TextStep> steps_;
  bool byte_level_ = false;
  bool byte_fallback_ = false;
  std::string metaspace_;  // what becomes a space; empty: nothing
  LeadingSpaces leading_spaces_ = LeadingSpaces::kKeep;
};

}  // namespace pregate
