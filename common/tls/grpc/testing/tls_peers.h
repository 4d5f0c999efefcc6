// Programs of every role in one test: each with its own --tls-dir, its own Security and its own
// log, and a server that has every service of pregate.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/server_stream.h"
#include "common/tls/grpc/security.h"
#include "common/tls/testing/test_certs.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "pregate/v1/router.grpc.pb.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate::testing {

// One program's end. Not copyable; outlives its servers and channels.
class TlsPeer {
 public:
  // Writes `pem` into a directory of its own and loads it. Aborts where that is refused.
  explicit TlsPeer(const TlsPem& pem);
  ~TlsPeer();

  const Security& security() const { return *security_; }
  const std::string& dir() const { return dir_; }
  // Whether a log line holds `text` now or within `timeout`.
  bool Logged(const std::string& text, absl::Duration timeout = absl::Seconds(10)) const;
  std::string Lines() const;

 private:
  std::string dir_;
  SystemClock clock_;
  mutable absl::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Log> log_;
  std::unique_ptr<Security> security_;
};

// Answers every call with OK, or with what came (Route, Attach).
class EveryService {
 public:
  std::vector<grpc::Service*> services() { return {&inference_, &router_, &worker_}; }

 private:
  class Inference final : public v1::Inference::CallbackService {
    grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                       const v1::TokenizeRequest*, v1::TokenizeResponse*) override;
    grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext*,
                                                             const v1::GenerateRequest*) override;
  };
  class Router final : public v1::Router::WithRawCallbackMethod_Route<v1::Router::Service> {
    ServerBytesReactor* Route(grpc::CallbackServerContext*) override;
  };
  class Worker final : public v1::ExpertWorker::WithRawCallbackMethod_Attach<
                           v1::ExpertWorker::WithCallbackMethod_Meet<v1::ExpertWorker::Service>> {
    ServerBytesReactor* Attach(grpc::CallbackServerContext*) override;
    grpc::ServerUnaryReactor* Meet(grpc::CallbackServerContext* context, const v1::MeetRequest*,
                                   v1::MeetResponse*) override;
  };

  Inference inference_;
  Router router_;
  Worker worker_;
};

// A server of `peer` on loopback with every service.
std::unique_ptr<RpcServer> Serve(EveryService& service, const TlsPeer& peer,
                                 const Address& listen = {.host = "127.0.0.1"});

}  // namespace pregate::testing
