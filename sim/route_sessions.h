// The router's protocol over a simulated model: sessions, gaps, idempotent requests.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/step/route.h"

namespace pregate::sim {

// Model: a State that is the empty prefix's by default, RouteOf(before, token) and
// After(before, token, route). Not thread-safe.
template <typename Model>
class RouteSessions {
 public:
  explicit RouteSessions(const Model& model) : model_(model) {}

  RouteResponse Answer(const RouteRequest& request) {
    std::vector<State>& states = sessions_[request.seq_id];
    RouteResponse response;
    response.seq_id = request.seq_id;
    response.base = request.base;
    if (request.base > static_cast<int32_t>(states.size())) {
      response.gap = true;
      response.have = static_cast<int32_t>(states.size());
      return response;
    }
    states.resize(request.base);
    for (const TokenId token : request.tokens) {
      const State before = states.empty() ? State() : states.back();
      response.routes.push_back(model_.RouteOf(before, token));
      states.push_back(model_.After(before, token, response.routes.back()));
    }
    return response;
  }
  void Close(SeqId seq_id) { sessions_.erase(seq_id); }
  void Clear() { sessions_.clear(); }
  size_t size() const { return sessions_.size(); }

 private:
  using State = typename Model::State;
  const Model model_;
  absl::flat_hash_map<SeqId, std::vector<State>> sessions_;  // the state after each token
};

}  // namespace pregate::sim
