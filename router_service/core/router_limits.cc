#include "router_service/core/router_limits.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {

absl::Status ValidateLimits(const RouterLimits& limits) {
  const std::pair<const char*, int> fields[] = {{"vocab_size", limits.vocab_size},
                                                {"context_tokens_max", limits.context_tokens_max},
                                                {"sessions_max", limits.sessions_max},
                                                {"kv_blocks", limits.kv_blocks},
                                                {"step_tokens_max", limits.step_tokens_max},
                                                {"requests_max", limits.requests_max}};
  for (const auto& [name, value] : fields) {
    if (value < 1) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", value, " is below 1"));
    }
  }
  const int64_t kv_tokens = int64_t{limits.kv_blocks} * kKvBlockTokens;
  if (kv_tokens < limits.context_tokens_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_blocks: ", limits.kv_blocks, " blocks hold ", kv_tokens,
                     " tokens, fewer than context_tokens_max ", limits.context_tokens_max));
  }
  if (limits.session_idle_max <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session_idle_max: ", absl::FormatDuration(limits.session_idle_max), " is not positive"));
  }
  return absl::OkStatus();
}

absl::Status ValidateTokenIds(absl::Span<const TokenId> tokens, int vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenId token = tokens[i];
    if (token < 0 || token >= vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokens[", i, "]: ", token, " is not below the vocabulary of ", vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const RouteRequest& request, const RouterLimits& limits) {
  const size_t num_tokens = request.tokens.size();
  if (num_tokens == 0) return absl::InvalidArgumentError("tokens: is empty");
  if (num_tokens > size_t{kRouteTokensMax}) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens: has ", num_tokens, ", the limit is ", kRouteTokensMax));
  }
  if (request.base < 0) {
    return absl::InvalidArgumentError(absl::StrCat("base: ", request.base, " is negative"));
  }
  if (request.base + static_cast<int64_t>(num_tokens) > limits.context_tokens_max) {
    return absl::InvalidArgumentError(absl::StrCat("base: ", request.base, " plus ", num_tokens,
                                                   " tokens is beyond the context of ",
                                                   limits.context_tokens_max));
  }
  return ValidateTokenIds(request.tokens, limits.vocab_size);
}

}  // namespace pregate
