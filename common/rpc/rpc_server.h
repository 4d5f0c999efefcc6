// A gRPC server with what every service needs: grpc.health.v1 that follows a readiness function and
// (as service kLiveService) a liveness function, reflection, keepalive, message limits, port 0, and
// a drain; that does not meet the limit of descriptors, cuts connections that cost too much, and
// notices when it cannot be reached any more.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/limits.h"
#include "common/config/address.h"
#include "common/telemetry/log.h"
#include "common/tls/grpc/security.h"

namespace pregate {

class SelfToldCalls;  // common/rpc/reset_counter.h

struct RpcServerOptions {
  Address listen;  // port 0 takes a free port
  int message_bytes_max = 0;
  // Outlives the server. Null, for tests: plaintext. REQUIRES: plaintext stays on this machine.
  const Security* security = nullptr;
  // The service whose callers may shake hands, "pregate.v1.Router"; empty, for tests: every role.
  std::string service;
  // Of the services' methods, those that tell of cancelled calls themselves; outlives the server.
  // Null: none does, and all are watched.
  SelfToldCalls* self_told = nullptr;
  // Whether a restart would not help: called as `ready` is. Null: as long as the server answers.
  std::function<bool()> live;
  // Where connections that are cut are told; outlives the server. Null: nowhere.
  const Log* log = nullptr;
  // Called once, on a thread of the server's, when kSelfProbesFailedMax calls to its own port, each
  // over a new connection, have failed in a row: only a restart helps. Null: the port is not
  // probed.
  std::function<void(const absl::Status& why)> on_unreachable;
  absl::Duration probe_interval = absl::Milliseconds(kSelfProbeIntervalMs);
  int connections_max = kRpcConnectionsMax;  // fewer where the limit of descriptors is small
};

// Thread-safe. Services outlive the server.
class RpcServer {
 public:
  // `ready` is called from a thread of the server's every kHealthPollMs and must not block.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      const RpcServerOptions& options, const std::vector<grpc::Service*>& services,
      std::function<bool()> ready);
  ~RpcServer();  // Shutdown(0)

  const Address& bound() const;  // with the port that was taken
  // For a caller within this process, who needs neither a connection nor a certificate.
  std::shared_ptr<grpc::Channel> InProcessChannel();

  // Acceptor's. Thread-safe they are not.
  void HoldWrites(size_t num_messages);
  void ReleaseWrites();

  // Health says NOT_SERVING from now on, whatever `ready` says; calls go on.
  void MarkDraining();
  // Accepts nothing new, waits up to `grace` for open calls, then cancels them. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate
