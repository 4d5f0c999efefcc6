// The scheduler's side of the router protocol (docs/CONTRACTS.md, "Router protocol"): which tokens
// of which session still need a route, and what was asked. One request a session is under way at a
// time, so an answer needs no number; the protocol is idempotent, so everything may be sent again.
// Losses show as RouterDown, as a GAP, or as no answer for `resend_after`.
// A router that is silent is asked whether its loop turns, so that readiness sees one that is
// frozen long before its connection breaks.
//
// A prompt is asked for in pieces of one step's tokens, the odd piece first: what is routed may run
// while the rest is at the router, and the prompt takes no more steps than it would whole. The
// prompt's pieces name the trace that they belong to, those of single tokens do not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler_service/core/sequence.h"
#include "scheduler_service/engine/links.h"

namespace pregate::scheduler {

// Not thread-safe. Borrows a sequence from its first Request to Close.
class RouteClient {
 public:
  // `piece_tokens`: of one request, at most kRouteTokensMax.
  RouteClient(RouterLink* link, absl::Duration resend_after, int32_t piece_tokens)
      : link_(link),
        resend_after_(resend_after),
        piece_tokens_(std::min(piece_tokens, kRouteTokensMax)) {}

  // Asks for the routes of every token from the first unrouted one. Nothing is sent while the
  // router is away.
  void Request(Sequence* sequence, absl::Time now);
  // Frees the session at the router, if there is one.
  void Close(SeqId id);

  // Asks again for everything unanswered.
  void OnUp(absl::Time now, bool answers_pings = false);
  void OnDown() { up_ = false; }
  bool up() const { return up_; }
  void OnHeard(absl::Time now) { heard_at_ = now; }  // anything, while it is up
  // When the router last showed that it lives; now, of one that is not asked.
  absl::Time LastHeard(absl::Time now) const { return up_ && answers_pings_ ? heard_at_ : now; }

  // Records the routes of the answer to what was asked, and asks for the rest. Stale and
  // nonsensical answers change nothing. INVALID_ARGUMENT: the router says that the request is
  // malformed.
  absl::Status OnResponse(const RouteResponse& response, int32_t num_experts, absl::Time now);
  // Sends what has had no answer again, and pings. Returns the sessions that got none for kSendsMax
  // times.
  std::vector<SeqId> OnTick(absl::Time now);

  static constexpr int kSendsMax = 64;  // without a new route

 private:
  struct Session {
    Sequence* sequence = nullptr;
    int32_t base = 0;
    int32_t count = 0;  // tokens asked for; 0: nothing
    int sends = 0;      // since the last new route
    absl::Time sent_at;
  };

  int32_t PieceFrom(const Sequence& s, int32_t base) const;
  void Send(Session* session, int32_t base, absl::Time now);
  void PingIfDue(absl::Time now);
  void OnGap(Session* session, int32_t have, absl::Time now);

  RouterLink* const link_;
  const absl::Duration resend_after_;
  const int32_t piece_tokens_;
  bool up_ = false;
  bool answers_pings_ = false;
  absl::Time heard_at_ = absl::InfinitePast();
  absl::Time pinged_at_ = absl::InfinitePast();
  absl::btree_map<SeqId, Session> sessions_;
};

}  // namespace pregate::scheduler
