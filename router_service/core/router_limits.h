// What bounds a router's work. Every queue and table has its limit here; defaults are options of
// main.cc.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/step/route.h"

namespace pregate {

struct RouterLimits {
  int vocab_size = 0;          // token ids are below it
  int context_tokens_max = 0;  // tokens in one session
  int sessions_max = 0;        // sessions with keys and values
  int kv_blocks = 0;           // of kKvBlockTokens tokens, shared by all sessions
  int step_tokens_max = 0;     // tokens in one pass of the network
  int requests_max = 0;        // requests taken and not answered, over all connections
  absl::Duration session_idle_max = absl::InfiniteDuration();
};

// Each limit is positive, and the longest session fits into the blocks.
absl::Status ValidateLimits(const RouterLimits& limits);

// Every id is in 0 .. vocab_size-1; else INVALID_ARGUMENT naming index and id.
absl::Status ValidateTokenIds(absl::Span<const TokenId> tokens, int vocab_size);

// INVALID_ARGUMENT naming field and value.
absl::Status ValidateRequest(const RouteRequest& request, const RouterLimits& limits);

}  // namespace pregate
