// The router service in virtual time: one request after the other, each at its cost.
#pragma once

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler_service/engine/links.h"
#include "scheduler_service/sim/agenda.h"
#include "scheduler_service/sim/cost_file.h"
#include "scheduler_service/sim/route_chain.h"

namespace pregate::sim {

// Borrows all; not thread-safe.
class SimRouter final : public RouterLink {
 public:
  SimRouter(Agenda* agenda, const Costs* costs, const RouteChain* chain)
      : agenda_(agenda), costs_(costs), chain_(chain) {}

  void SayHello();
  void Send(ToRouter message) override;

 private:
  RouteResponse Answer(const RouteRequest& request);

  Agenda* const agenda_;
  const Costs* const costs_;
  const RouteChain* const chain_;
  absl::Time free_at_ = absl::InfinitePast();
  absl::flat_hash_map<SessionId, std::vector<ExpertId>> sessions_;
};

}  // namespace pregate::sim
