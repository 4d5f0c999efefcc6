// Where simulated sequences get their tokens and routes: a Markov chain, or a record of real ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "sim/route_chain.h"
#include "sim/route_record.h"

namespace pregate::sim {

// A function of the tokens alone, as a router is: the router service and the worker's replica agree
// without knowing each other. With a record, a sequence is a stretch of one of its texts (each token
// of the record is as likely to be the first), goes on at the text's beginning when that ends, and a
// token's id is its place in the record.
class SimRoutes {
 public:
  explicit SimRoutes(const RouteChain& chain) : chain_(chain) {}
  SimRoutes(uint64_t seed, const RouteRecord& record) : chain_{seed, 0, record.num_experts} {
    auto replay = std::make_shared<Replay>();
    for (const std::vector<ExpertId>& text : record.texts) {
      replay->begins.push_back(static_cast<int64_t>(replay->routes.size()));
      replay->routes.insert(replay->routes.end(), text.begin(), text.end());
    }
    replay->begins.push_back(static_cast<int64_t>(replay->routes.size()));
    replay_ = std::move(replay);
  }

  int32_t num_experts() const { return chain_.num_experts; }
  TokenId TokenAt(uint64_t sequence_seed, uint64_t position) const {
    if (replay_ == nullptr) return DrawToken(sequence_seed, position);
    const auto& begins = replay_->begins;
    const auto first = static_cast<int64_t>(Mix(chain_.seed, sequence_seed) % begins.back());
    const auto end = std::upper_bound(begins.begin(), begins.end(), first);
    const int64_t begin = *std::prev(end);
    return static_cast<TokenId>(begin + (first - begin + position) % (*end - begin));
  }

  // All that the router knows of a prefix.
  struct State {
    ExpertId route = kNoRoute;  // of its last token
  };
  ExpertId RouteOf(const State& before, TokenId token) const {
    return replay_ == nullptr ? chain_.Next(before.route, token) : replay_->routes[token];
  }
  State After(const State&, TokenId, ExpertId route) const { return {route}; }

 private:
  struct Replay {
    std::vector<ExpertId> routes;  // of all texts
    std::vector<int64_t> begins;   // [texts + 1]
  };

  RouteChain chain_;
  std::shared_ptr<const Replay> replay_;  // null: the chain
};

}  // namespace pregate::sim
