// The router's protocol over FakeModel: sessions, gaps, idempotent requests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/step/route.h"
#include "scheduler_service/testing/fake_model.h"

namespace pregate::scheduler {

// Not thread-safe.
class FakeRouter {
 public:
  static constexpr const char* kDigest = "fake router";

  FakeRouter(const FakeModel& model, uint64_t boot_id) : model_(model), boot_id_(boot_id) {}

  RouterHello MakeHello() const {
    RouterHello hello;
    hello.boot_id = boot_id_;
    hello.router_digest = kDigest;
    hello.num_experts = model_.num_experts;
    hello.vocab_size = model_.vocab_size;
    return hello;
  }

  RouteResponse OnRequest(const RouteRequest& request) {
    std::vector<FakeModel::State>& states = sessions_[request.session];
    RouteResponse response;
    response.session = request.session;
    response.base = request.base;
    if (request.tokens.empty() || request.tokens.size() > kRouteTokensMax)
      violations_.push_back("request size");
    if (request.base > static_cast<int32_t>(states.size())) {
      response.gap = true;
      response.have = static_cast<int32_t>(states.size());
      return response;
    }
    states.resize(request.base);
    for (TokenId token : request.tokens) {
      const FakeModel::State before = states.empty() ? FakeModel::State() : states.back();
      response.routes.push_back(model_.RouteOf(before, token));
      states.push_back(model_.After(before, token, response.routes.back()));
    }
    return response;
  }
  void OnClose(const CloseSession& close) { sessions_.erase(close.session); }
  void ExpireSessions() { sessions_.clear(); }

  size_t num_sessions() const { return sessions_.size(); }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  const FakeModel model_;
  const uint64_t boot_id_;
  std::map<SessionId, std::vector<FakeModel::State>> sessions_;  // the state after each token
  std::vector<std::string> violations_;
};

}  // namespace pregate::scheduler
