// The router service in virtual time: one request after the other, each at its cost.
#pragma once

#include "scheduler_service/engine/links.h"
#include "sim/agenda.h"
#include "sim/cost_file.h"
#include "sim/route_chain.h"
#include "sim/route_sessions.h"

namespace pregate::sim {

// Borrows all; not thread-safe.
class SimRouter final : public RouterLink {
 public:
  SimRouter(Agenda* agenda, const Costs* costs, const RouteChain& chain)
      : agenda_(agenda), costs_(costs), sessions_(chain) {}

  void SayHello();
  void Send(ToRouter message) override;

 private:
  Agenda* const agenda_;
  const Costs* const costs_;
  absl::Time free_at_ = absl::InfinitePast();
  RouteSessions<RouteChain> sessions_;
};

}  // namespace pregate::sim
