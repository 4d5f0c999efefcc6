// The router stream's messages (docs/CONTRACTS.md, "Router protocol").
// base < have: truncate and recompute; base > have: GAP; an unknown session has 0 tokens.
// Idempotent.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"

namespace pregate {

inline constexpr int kRouteTokensMax = 8192;  // tokens in one RouteRequest

struct RouteRequest {
  SeqId seq_id = 0;
  int32_t base = 0;  // position of tokens[0]
  std::vector<TokenId> tokens;
  std::string traceparent;  // of the call that asks; empty: of no trace
};
struct CloseSession {
  SeqId seq_id = 0;
};
struct RouterPing {};  // asks whether the loop turns; only where the hello says answers_pings
using ToRouter = std::variant<RouteRequest, CloseSession, RouterPing>;

struct RouterHello {
  uint64_t boot_id = 0;
  std::string router_digest;
  int32_t num_experts = 0;
  int32_t vocab_size = 0;
  bool answers_pings = false;
};
struct RouteResponse {
  SeqId seq_id = 0;
  int32_t base = 0;
  std::vector<ExpertId> routes;  // [tokens]; empty on a gap or an error
  bool gap = false;
  int32_t have = 0;   // tokens that the session has, on a gap
  std::string error;  // the request was malformed (token id out of range, too many tokens)
};
struct RouterPong {};
using FromRouter = std::variant<RouterHello, RouteResponse, RouterPong>;

}  // namespace pregate
