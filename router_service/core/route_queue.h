// What the router does next: requests in, one step of tokens out, answers back.
//
//   Submit ─▶ waiting ─(blocks reserved, gap checked)─▶ active ─(Plan / Commit, any number of
//   steps)─▶ answer
//
// A request becomes active when its session is free and blocks for all of its tokens are reserved,
// so an active request always finishes and nothing can deadlock. Requests of one session are served
// in order of arrival.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/step/route.h"
#include "router_service/core/router_limits.h"
#include "router_service/core/session_table.h"

namespace pregate {

// How one step's token budget is divided among the requests that are being routed.

// `remaining`: tokens left of each request, in order of arrival, each positive. Returns tokens for
// each, with sum = min(budget, sum of remaining). Shortest first, since a token just sampled must
// not wait for a long prompt and this order has the least mean waiting time; but the oldest gets a
// quarter of the budget ahead of all, so that none starves. REQUIRES: budget >= 1.
std::vector<int> TokenShares(absl::Span<const int> remaining, int budget);

// Consecutive tokens of one session. The spans are valid until Commit.
struct RouteRow {
  SessionKey key;
  int position = 0;  // of the first token
  absl::Span<const TokenId> tokens;
  absl::Span<const BlockId> blocks;  // block table through the row's last token, at least
};

struct RouteAnswer {
  LinkId link = 0;
  RouteResponse response;
  absl::Time submitted;
  std::string traceparent;  // of the request, where it was routed
};

struct RouteStep {
  std::vector<RouteRow> rows;
  int num_tokens = 0;                // over all rows, <= step_tokens_max
  std::vector<RouteAnswer> answers;  // gaps, found without running anything
};

// Not thread-safe. Between Plan and the Commit of its step no other method may be called.
class RouteQueue {
 public:
  // REQUIRES: ValidateLimits(limits) is OK.
  explicit RouteQueue(const RouterLimits& limits);

  // A malformed request, or one too many, is answered at once with an error.
  std::optional<RouteResponse> Submit(LinkId link, RouteRequest request, absl::Time now);
  // Forgets the session and its requests, which are not answered.
  void Close(LinkId link, SeqId seq_id);
  void CloseLink(LinkId link);

  // The next step; no rows when there is nothing to route.
  RouteStep Plan();
  // `routes`: one for each token of the step's rows, in their order. Returns the answers that are
  // complete.
  std::vector<RouteAnswer> Commit(const RouteStep& step, absl::Span<const ExpertId> routes,
                                  absl::Time now);

  void ExpireIdle(absl::Time now);
  // When ExpireIdle has something to do next; InfiniteFuture if never.
  absl::Time NextExpiry() const;

  bool HasWork() const { return !waiting_.empty() || !active_.empty(); }
  int num_requests() const { return static_cast<int>(waiting_.size() + active_.size()); }
  int64_t num_gaps() const { return num_gaps_; }
  const SessionTable& sessions() const { return sessions_; }

 private:
  struct Request {
    SessionKey key;
    int base = 0;
    std::vector<TokenId> tokens;
    std::vector<ExpertId> routes;  // of the first tokens
    absl::Time submitted;
    std::string traceparent;
    int remaining() const { return static_cast<int>(tokens.size() - routes.size()); }
  };

  // Moves what can start from waiting to active; answers gaps.
  void Activate(std::vector<RouteAnswer>& gaps);
  RouteRow MakeRow(const Request& request, int count) const;
  template <typename Matches>
  void Forget(Matches matches);

  const RouterLimits limits_;
  SessionTable sessions_;
  std::deque<Request> waiting_;  // in order of arrival
  std::deque<Request> active_;   // in order of activation
  int64_t num_gaps_ = 0;
};

}  // namespace pregate
