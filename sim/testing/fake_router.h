// The router over FakeModel, which notes requests that break the protocol.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/route_sessions.h"
#include "sim/testing/fake_model.h"

namespace pregate::scheduler {

// Not thread-safe.
class FakeRouter {
 public:
  static constexpr const char* kDigest = "fake router";

  FakeRouter(const FakeModel& model, uint64_t boot_id)
      : model_(model), boot_id_(boot_id), sessions_(model) {}

  RouterHello MakeHello() const {
    RouterHello hello;
    hello.boot_id = boot_id_;
    hello.router_digest = kDigest;
    hello.num_experts = model_.num_experts;
    hello.vocab_size = model_.vocab_size;
    return hello;
  }

  RouteResponse OnRequest(const RouteRequest& request) {
    if (request.tokens.empty() || request.tokens.size() > kRouteTokensMax) {
      violations_.push_back("request size");
    }
    return sessions_.Answer(request);
  }
  void OnClose(const CloseSession& close) { sessions_.Close(close.seq_id); }
  void ExpireSessions() { sessions_.Clear(); }

  size_t num_sessions() const { return sessions_.size(); }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  const FakeModel model_;
  const uint64_t boot_id_;
  sim::RouteSessions<FakeModel> sessions_;
  std::vector<std::string> violations_;
};

}  // namespace pregate::scheduler
