#include "router_service/core/route_queue.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {

std::vector<int> TokenShares(absl::Span<const int> remaining, int budget) {
  std::vector<int> shares(remaining.size(), 0);
  if (remaining.empty()) return shares;
  shares[0] = std::min(remaining[0], std::max(1, budget / 4));
  budget -= shares[0];

  std::vector<int> order(remaining.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return remaining[a] < remaining[b]; });
  for (int i : order) {
    const int more = std::min(remaining[i] - shares[i], budget);
    shares[i] += more;
    budget -= more;
  }
  return shares;
}

namespace {

RouteResponse ErrorResponse(const RouteRequest& request, std::string error) {
  return RouteResponse{.seq_id = request.seq_id, .base = request.base, .error = std::move(error)};
}

}  // namespace

RouteQueue::RouteQueue(const RouterLimits& limits)
    : limits_(limits), sessions_(limits.sessions_max, limits.kv_blocks) {
  const absl::Status status = ValidateLimits(limits);
  PREGATE_CHECK(status.ok(), "", status.ToString());
}

std::optional<RouteResponse> RouteQueue::Submit(LinkId link, RouteRequest request, absl::Time now) {
  if (absl::Status status = ValidateRequest(request, limits_); !status.ok()) {
    return ErrorResponse(request, std::string(status.message()));
  }
  if (num_requests() >= limits_.requests_max) {
    return ErrorResponse(
        request, absl::StrCat("requests: ", num_requests(), " are not answered yet, the limit is ",
                              limits_.requests_max));
  }
  waiting_.push_back(Request{.key = {link, request.seq_id},
                             .base = request.base,
                             .tokens = std::move(request.tokens),
                             .submitted = now,
                             .traceparent = std::move(request.traceparent)});
  return std::nullopt;
}

template <typename Matches>
void RouteQueue::Forget(Matches matches) {
  std::erase_if(waiting_, matches);
  std::erase_if(active_, matches);
}

void RouteQueue::Close(LinkId link, SeqId seq_id) {
  const SessionKey key{link, seq_id};
  Forget([&](const Request& r) { return r.key == key; });
  sessions_.Close(key);
}

void RouteQueue::CloseLink(LinkId link) {
  Forget([&](const Request& r) { return r.key.link == link; });
  sessions_.CloseLink(link);
}

void RouteQueue::Activate(std::vector<RouteAnswer>& gaps) {
  std::deque<Request> still_waiting;
  bool has_room =
      true;  // the first that lacks blocks stops all behind it, or large ones would starve
  for (Request& request : waiting_) {
    const int have = sessions_.NumTokens(request.key);
    const int end = request.base + request.remaining();
    if (!has_room || sessions_.IsPinned(request.key)) {
      still_waiting.push_back(std::move(request));
    } else if (request.base > have) {
      ++num_gaps_;
      gaps.push_back(
          {request.key.link,
           {.seq_id = request.key.seq_id, .base = request.base, .gap = true, .have = have},
           request.submitted,
           /*traceparent=*/""});
    } else if (has_room = sessions_.Reserve(request.key, request.base, end); has_room) {
      active_.push_back(std::move(request));
    } else {
      still_waiting.push_back(std::move(request));
    }
  }
  waiting_ = std::move(still_waiting);
}

RouteRow RouteQueue::MakeRow(const Request& request, int count) const {
  const int done = static_cast<int>(request.routes.size());
  return RouteRow{.key = request.key,
                  .position = request.base + done,
                  .tokens = absl::MakeConstSpan(request.tokens).subspan(done, count),
                  .blocks = sessions_.Blocks(request.key)};
}

RouteStep RouteQueue::Plan() {
  RouteStep step;
  Activate(step.answers);
  std::vector<int> remaining;
  for (const Request& request : active_) remaining.push_back(request.remaining());
  const std::vector<int> shares = TokenShares(remaining, limits_.step_tokens_max);
  for (size_t i = 0; i < active_.size(); ++i) {
    if (shares[i] == 0) continue;
    step.rows.push_back(MakeRow(active_[i], shares[i]));
    step.num_tokens += shares[i];
  }
  return step;
}

std::vector<RouteAnswer> RouteQueue::Commit(const RouteStep& step,
                                            absl::Span<const ExpertId> routes, absl::Time now) {
  PREGATE_CHECK(static_cast<int>(routes.size()) == step.num_tokens, "routes ", routes.size());
  std::vector<RouteAnswer> answers;
  auto request = active_.begin();
  for (const RouteRow& row : step.rows) {
    // Rows are in the order of active requests, some of which got no tokens.
    while (!(request->key == row.key)) ++request;
    const absl::Span<const ExpertId> own = routes.subspan(0, row.tokens.size());
    routes.remove_prefix(own.size());
    request->routes.insert(request->routes.end(), own.begin(), own.end());
    sessions_.Append(row.key, static_cast<int>(own.size()));
    if (request->remaining() > 0) continue;
    sessions_.Unpin(row.key, now);
    answers.push_back(
        {row.key.link,
         {.seq_id = row.key.seq_id, .base = request->base, .routes = std::move(request->routes)},
         request->submitted,
         std::move(request->traceparent)});
    request->tokens.clear();  // marks it as answered
    request->routes.clear();
  }
  std::erase_if(active_, [](const Request& r) { return r.tokens.empty(); });
  return answers;
}

void RouteQueue::ExpireIdle(absl::Time now) {
  sessions_.ExpireIdle(now - limits_.session_idle_max);
}

absl::Time RouteQueue::NextExpiry() const {
  return sessions_.OldestIdleStart() + limits_.session_idle_max;
}

}  // namespace pregate
