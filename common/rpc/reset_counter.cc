#include "common/rpc/reset_counter.h"

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

class ResetCounter final : public grpc::experimental::Interceptor {
 public:
  ResetCounter(CallWatch* watch, ServerRpcInfo* call) : watch_(watch), call_(call) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) &&
        WasCancelled()) {
      watch_->OnReset(call_->server_context()->peer());
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

  CallWatch* const watch_;
  ServerRpcInfo* const call_;
};

class ResetCounters final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  ResetCounters(CallWatch* watch, const SelfToldCalls* self_told)
      : watch_(watch), self_told_(self_told) {}

  // Null: the call has none.
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    if (self_told_ != nullptr && self_told_->Has(call->method())) return nullptr;
    return new ResetCounter(watch_, call);
  }

 private:
  CallWatch* const watch_;
  const SelfToldCalls* const self_told_;
};

}  // namespace

bool ResetAllowance::Allow(absl::Time now) {
  const double given_back = absl::ToDoubleSeconds(now - last_) * kConnectionResetsPerSecond;
  used_ = std::max(0.0, used_ - std::max(0.0, given_back)) + 1;
  last_ = now;
  return used_ <= kConnectionResetsMax;
}

bool ResetAllowance::Begin() { return ++num_open_ <= kClientStreamsMax + kConnectionResetsMax; }

bool ResetAllowance::End(bool cancelled, absl::Time now) {
  --num_open_;
  return !cancelled || Allow(now);
}

std::function<void()> SelfToldCalls::Begin(const grpc::ServerContextBase& call) const {
  if (watch_ == nullptr) return [] {};
  std::string peer = call.peer();  // gRPC may have forgotten it by the end
  const uint64_t connection = watch_->OnBegin(peer);
  return [this, &call, connection, peer = std::move(peer)] {
    watch_->OnEnd(peer, connection, call.IsCancelled());
  };
}

bool SelfToldCalls::Has(absl::string_view method) const {
  return std::find(methods_.begin(), methods_.end(), method) != methods_.end();
}

void CountResets(grpc::ServerBuilder& builder, CallWatch* watch, SelfToldCalls* self_told) {
  if (self_told != nullptr) self_told->TellTo(watch);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> creators;
  creators.push_back(std::make_unique<ResetCounters>(watch, self_told));
  builder.experimental().SetInterceptorCreators(std::move(creators));
}

}  // namespace pregate
