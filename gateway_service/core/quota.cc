#include "gateway_service/core/quota.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pregate::gateway {
namespace {

constexpr absl::Duration kRetryWhenFull = absl::Seconds(1);

}  // namespace

QuotaTable::Use& QuotaTable::Find(const ApiToken& token, absl::Time now) {
  Use& use = uses_[token.sha256];
  const double full = token.tokens_per_minute;
  const double since_s = std::max(0.0, absl::ToDoubleSeconds(now - use.filled));
  use.level =
      since_s >= 60 && use.level >= 0 ? full : std::min(full, use.level + full / 60 * since_s);
  use.filled = now;
  return use;
}

QuotaTable::Verdict QuotaTable::Admit(const ApiToken& token, absl::Time now) {
  Use& use = Find(token, now);
  if (token.concurrent_max > 0 && use.running >= token.concurrent_max) {
    return {absl::ResourceExhaustedError(absl::StrCat("this token runs ", use.running,
                                                      " requests, at most ", token.concurrent_max)),
            kRetryWhenFull};
  }
  if (token.tokens_per_minute > 0 && use.level < 1) {
    const double wait_s = (1 - use.level) * 60 / token.tokens_per_minute;
    return {absl::ResourceExhaustedError(absl::StrCat("this token has used its ",
                                                      token.tokens_per_minute, " tokens a minute")),
            absl::Seconds(wait_s)};
  }
  ++use.running;
  return {};
}

void QuotaTable::Charge(const ApiToken& token, int64_t tokens, absl::Time now) {
  if (token.tokens_per_minute > 0) Find(token, now).level -= static_cast<double>(tokens);
}

void QuotaTable::Release(const ApiToken& token) { --uses_[token.sha256].running; }

void QuotaTable::Prune(const ApiTokens& current) {
  std::erase_if(
      uses_, [&](const auto& use) { return use.second.running == 0 && !current.Has(use.first); });
}

}  // namespace pregate::gateway
