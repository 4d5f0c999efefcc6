#include "scheduler_service/engine/route_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"

namespace pregate::scheduler {

void RouteClient::Request(Sequence* sequence, absl::Time now) {
  Session& session = sessions_[sequence->id];
  session.sequence = sequence;
  session.sends = 0;
  Send(&session, sequence->routed, now);
}

// What is routed already is sent again in one go, after a GAP, with the first piece that is not.
int32_t RouteClient::PieceFrom(const Sequence& s, int32_t base) const {
  const int32_t known = std::max(s.routed - base, 0);
  const int32_t unknown = s.num_tokens() - base - known;
  const int32_t odd = unknown % piece_tokens_;
  const int32_t piece = odd > 0 ? odd : std::min(piece_tokens_, unknown);
  return std::min(known + piece, kRouteTokensMax);
}

void RouteClient::Send(Session* session, int32_t base, absl::Time now) {
  const Sequence& s = *session->sequence;
  session->base = base;
  session->count = PieceFrom(s, base);
  session->sent_at = now;
  if (!up_) return;
  ++session->sends;
  const auto first = s.tokens.begin() + base;
  RouteRequest request{s.id, base, {first, first + session->count}};
  if (base < s.prompt_len) request.traceparent = s.traceparent;
  link_->Send(std::move(request));
}

void RouteClient::Close(SeqId id) {
  if (sessions_.erase(id) > 0 && up_) link_->Send(CloseSession{id});
}

void RouteClient::OnUp(absl::Time now, bool answers_pings) {
  up_ = true;
  answers_pings_ = answers_pings;
  heard_at_ = now;
  for (auto& [id, session] : sessions_) {
    if (session.count > 0) Send(&session, session.base, now);
  }
}

absl::Status RouteClient::OnResponse(const RouteResponse& response, int32_t num_experts,
                                     absl::Time now) {
  const auto it = sessions_.find(response.seq_id);
  if (it == sessions_.end()) return absl::OkStatus();
  Session* session = &it->second;
  if (session->count == 0 || response.base != session->base) return absl::OkStatus();
  if (!response.error.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the router refuses the tokens: ", response.error));
  }
  if (response.gap) {
    OnGap(session, response.have, now);
    return absl::OkStatus();
  }
  const bool in_range = std::all_of(response.routes.begin(), response.routes.end(),
                                    [&](ExpertId e) { return e >= 0 && e < num_experts; });
  if (!in_range || static_cast<int32_t>(response.routes.size()) != session->count)
    return absl::OkStatus();
  Sequence* s = session->sequence;
  const int32_t routed_before = s->routed;
  s->RecordRoutes(session->base, response.routes);
  if (s->routed > routed_before) session->sends = 0;
  const int32_t next = session->base + session->count;
  session->count = 0;
  if (next < s->num_tokens()) Send(session, next, now);
  return absl::OkStatus();
}

// `have` is below what was asked, else the answer makes no sense; a router that alternates gaps and
// routes for ever is stopped by kSendsMax.
void RouteClient::OnGap(Session* session, int32_t have, absl::Time now) {
  if (have >= 0 && have < session->base && session->sends < kSendsMax) Send(session, have, now);
}

void RouteClient::PingIfDue(absl::Time now) {
  if (!answers_pings_ || now - pinged_at_ < absl::Milliseconds(kRouterPingMs)) return;
  pinged_at_ = now;
  link_->Send(RouterPing{});
}

std::vector<SeqId> RouteClient::OnTick(absl::Time now) {
  std::vector<SeqId> given_up;
  if (!up_) return given_up;
  PingIfDue(now);
  for (auto& [id, session] : sessions_) {
    if (session.count == 0 || now - session.sent_at < resend_after_) continue;
    if (session.sends >= kSendsMax) {
      given_up.push_back(id);
    } else {
      Send(&session, session.base, now);
    }
  }
  return given_up;
}

}  // namespace pregate::scheduler
