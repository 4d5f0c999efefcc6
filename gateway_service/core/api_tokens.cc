#include "gateway_service/core/api_tokens.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/gateway_limits.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {
namespace {

constexpr size_t kDigestBytes = 64;

bool IsDigest(absl::string_view text) {
  return text.size() == kDigestBytes && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// Without a way out at the first difference, which could be timed.
bool EqualDigests(absl::string_view a, absl::string_view b) {
  unsigned char difference = 0;
  for (size_t i = 0; i < kDigestBytes; ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

absl::StatusOr<ApiToken> ReadToken(const std::string& where, const nlohmann::json& entry) {
  if (!entry.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is ", Shown(entry), ", not an object"));
  }
  ApiToken token;
  for (const auto& [key, value] : entry.items()) {
    const std::string name = absl::StrCat(where, ".", key);
    const auto read_int = [&name = name, &value = value](int64_t min, int64_t max, int32_t* out) {
      const auto read = ReadInt(name, value, min, max);
      if (read.ok()) *out = static_cast<int32_t>(*read);
      return read.status();
    };
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
    if (key == "sha256") {
      if (!value.is_string() || !IsDigest(value.get_ref<const std::string&>())) {
        return absl::InvalidArgumentError(absl::StrCat(
            name, " is not 64 lower-case hex digits (pregate api-token new makes them)"));
      }
      token.sha256 = value.get<std::string>();
    } else if (key == "tenant") {
      ASSIGN_OR_RETURN(token.tenant, ReadString(name, value));
      if (token.tenant.size() > static_cast<size_t>(kIdBytesMax)) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, " has ", token.tenant.size(), " bytes, at most ", kIdBytesMax));
      }
    } else if (key == "priority") {
      RETURN_IF_ERROR(read_int(-kPriorityMax, kPriorityMax, &token.priority));
    } else if (key == "concurrent_max") {
      RETURN_IF_ERROR(read_int(0, kMax, &token.concurrent_max));
    } else if (key == "tokens_per_minute") {
      RETURN_IF_ERROR(read_int(0, kMax, &token.tokens_per_minute));
    } else {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", Shown(key), " is no field"));
    }
  }
  if (token.sha256.empty())
    return absl::InvalidArgumentError(absl::StrCat(where, " has no sha256"));
  return token;
}

}  // namespace

absl::StatusOr<ApiTokens> ApiTokens::From(const nlohmann::json& file, const std::string& where) {
  if (!file.is_object() || file.size() != 1 || !file.contains("tokens") ||
      !file["tokens"].is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, R"( is not {"tokens": [...]})"));
  }
  const nlohmann::json& entries = file["tokens"];
  if (entries.size() > static_cast<size_t>(kApiTokensMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " has ", entries.size(), " tokens, at most ", kApiTokensMax));
  }
  ApiTokens tokens;
  std::set<std::string> seen;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string name = absl::StrCat(where, ": tokens[", i, "]");
    ASSIGN_OR_RETURN(ApiToken token, ReadToken(name, entries[i]));
    if (!seen.insert(token.sha256).second) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is there twice"));
    }
    tokens.tokens_.push_back(std::move(token));
  }
  return tokens;
}

const ApiToken* ApiTokens::Find(absl::string_view token) const {
  const std::string digest = Sha256Hex({token.data(), token.size()});
  const ApiToken* found = nullptr;
  for (const ApiToken& known : tokens_) {
    if (EqualDigests(known.sha256, digest)) found = &known;
  }
  return found;
}

bool ApiTokens::Has(absl::string_view sha256) const {
  return std::any_of(tokens_.begin(), tokens_.end(),
                     [&](const ApiToken& token) { return token.sha256 == sha256; });
}

absl::string_view BearerToken(absl::string_view authorization) {
  constexpr absl::string_view kScheme = "bearer ";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return "";
  return absl::StripAsciiWhitespace(authorization.substr(kScheme.size()));
}

}  // namespace pregate::gateway
