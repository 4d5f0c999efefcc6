// A client's end of a running cluster, in plaintext or over mutual TLS.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/rpc/grpc_log.h"
#include "common/telemetry/log.h"
#include "common/tls/grpc/security.h"

namespace pregate::cli {

// Lives at most once in a process (GrpcLog). Reasons of refused handshakes come back in the status
// of calls, so nothing is logged but errors.
class RemoteServer {
 public:
  // `address` is the value of --server, at which one of `server` roles answers; the certificate in
  // tls.dir is of one of `own` roles. Errors name the option.
  static absl::StatusOr<std::unique_ptr<RemoteServer>> Open(const std::string& address,
                                                            const TlsOptions& tls, RoleSet own,
                                                            RoleSet server);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // `status` of a call, with a hint where the other side seems to speak something else.
  absl::Status Explain(absl::Status status) const;

 private:
  RemoteServer() = default;

  SystemClock clock_;
  const Log log_{"pregate", {.level = "error"}};
  const GrpcLog grpc_log_{&log_, &clock_};
  std::unique_ptr<Security> security_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace pregate::cli
