#include "common/rpc/reset_counter.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "common/base/limits.h"

namespace pregate {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;
using OnReset = std::function<void(const std::string& peer)>;

class ResetCounter final : public grpc::experimental::Interceptor {
 public:
  ResetCounter(const OnReset* on_reset, ServerRpcInfo* call) : on_reset_(on_reset), call_(call) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) &&
        WasCancelled()) {
      (*on_reset_)(call_->server_context()->peer());
    }
    methods->Proceed();
  }

 private:
  // Reflection is the one service that is not asynchronous: it cannot be asked here, and nobody
  // needs it often.
  bool WasCancelled() const {
    return absl::StartsWith(call_->method(), "/grpc.reflection.") ||
           call_->server_context()->IsCancelled();
  }

  const OnReset* const on_reset_;
  ServerRpcInfo* const call_;
};

class ResetCounters final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit ResetCounters(OnReset on_reset) : on_reset_(std::move(on_reset)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    return new ResetCounter(&on_reset_, call);
  }

 private:
  const OnReset on_reset_;
};

}  // namespace

bool ResetAllowance::Allow(absl::Time now) {
  const double given_back = absl::ToDoubleSeconds(now - last_) * kConnectionResetsPerSecond;
  used_ = std::max(0.0, used_ - std::max(0.0, given_back)) + 1;
  last_ = now;
  return used_ <= kConnectionResetsMax;
}

void CountResets(grpc::ServerBuilder& builder, OnReset on_reset) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> creators;
  creators.push_back(std::make_unique<ResetCounters>(std::move(on_reset)));
  builder.experimental().SetInterceptorCreators(std::move(creators));
}

}  // namespace pregate
