#include "sim/sim_router.h"

#include <algorithm>
#include <utility>

namespace pregate::sim {

void SimRouter::SayHello() {
  RouterHello hello;
  hello.router_digest = "simulated";
  hello.num_experts = costs_->experts;
  hello.vocab_size = RouteChain::kVocab;
  agenda_->Deliver(RouterEvent{hello});
}

void SimRouter::Send(ToRouter message) {
  if (const auto* close = std::get_if<CloseSession>(&message)) {
    sessions_.Close(close->seq_id);
    return;
  }
  const RouteRequest& request = std::get<RouteRequest>(message);
  const absl::Duration link = absl::Seconds(costs_->link_s);
  const absl::Time begin = std::max(agenda_->now() + link, free_at_);
  free_at_ = begin +
             absl::Seconds(costs_->route_request_s + costs_->route_token_s * request.tokens.size());
  agenda_->DeliverAt(free_at_ + link, RouterEvent{sessions_.Answer(request)});
}

}  // namespace pregate::sim
