// The router service in virtual time: one request after the other, each at its cost.
#pragma once

#include "scheduler_service/engine/links.h"
#include "sim/agenda.h"
#include "sim/cost_file.h"
#include "sim/route_sessions.h"
#include "sim/sim_routes.h"

namespace pregate::sim {

// Borrows all; not thread-safe.
class SimRouter final : public RouterLink {
 public:
  SimRouter(Agenda* agenda, const Costs* costs, const SimRoutes& routes)
      : agenda_(agenda), costs_(costs), sessions_(routes) {}

  void SayHello();
  void Send(ToRouter message) override;

 private:
  Agenda* const agenda_;
  const Costs* const costs_;
  absl::Time free_at_ = absl::InfinitePast();
  RouteSessions<SimRoutes> sessions_;
};

}  // namespace pregate::sim
