// How much each API token may use: requests at once, and tokens a minute. A bucket holds what one
// minute allows and fills evenly; a request may begin while anything is in it, and what it then
// costs is taken out, below zero if need be: nobody knows beforehand how long an answer gets.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway_service/core/api_tokens.h"

namespace pregate::gateway {

// Not thread-safe. Knows a token by its hash, so that reloading the file resets nothing.
class QuotaTable {
 public:
  struct Verdict {
    absl::Status status;         // RESOURCE_EXHAUSTED names the bound
    absl::Duration retry_after;  // where it is not OK
  };
  // OK: the request runs from now on, until Release.
  Verdict Admit(const ApiToken& token, absl::Time now);
  void Charge(const ApiToken& token, int64_t tokens, absl::Time now);
  void Release(const ApiToken& token);
  // Drops what is known of tokens that are not in `current` and run nothing.
  void Prune(const ApiTokens& current);

 private:
  struct Use {
    int32_t running = 0;
    double level = 0;  // tokens that may still be used
    absl::Time filled = absl::InfinitePast();
  };
  // With the bucket filled up to `now`.
  Use& Find(const ApiToken& token, absl::Time now);

  std::map<std::string, Use> uses_;  // by hash
};

}  // namespace pregate::gateway
