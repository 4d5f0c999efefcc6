// Who may use the HTTP API: bearer tokens, of which the file has only hashes.
//
//   {"tokens": [{"sha256": "9f86d0...", "tenant": "acme", "concurrent_max": 8,
//                "tokens_per_minute": 20000}]}
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace pregate::gateway {

struct ApiToken {
  std::string sha256;  // of the token, 64 lower-case hex digits
  std::string tenant;
  int32_t priority = 0;           // of its requests
  int32_t concurrent_max = 0;     // requests at once; 0: any number
  int32_t tokens_per_minute = 0;  // of prompts and answers; 0: any number
  bool operator==(const ApiToken&) const = default;
};

// Immutable.
class ApiTokens {
 public:
  // Errors name `where` and the entry and field at fault, never a hash.
  static absl::StatusOr<ApiTokens> From(const nlohmann::json& file, const std::string& where);
  ApiTokens() = default;

  // Null: not known. Takes as long wherever it stands, and whether it is there or not.
  const ApiToken* Find(absl::string_view token) const;
  bool Has(absl::string_view sha256) const;
  size_t size() const { return tokens_.size(); }

 private:
  std::vector<ApiToken> tokens_;
};

// The token of "Authorization: Bearer TOKEN"; empty: none. The scheme's case does not matter.
absl::string_view BearerToken(absl::string_view authorization);

}  // namespace pregate::gateway
