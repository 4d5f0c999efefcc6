#include "cli/remote_server.h"

#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/rpc/channel.h"

namespace pregate::cli {

absl::StatusOr<std::unique_ptr<RemoteServer>> RemoteServer::Open(const std::string& address,
                                                                 const TlsOptions& tls, RoleSet own,
                                                                 RoleSet server) {
  std::unique_ptr<RemoteServer> remote(new RemoteServer);
  ASSIGN_OR_RETURN(remote->security_, Security::Load(tls, own, &remote->log_, &remote->clock_));
  ASSIGN_OR_RETURN(const Address parsed, remote->security_->ParseAddress("server", address));
  remote->channel_ = MakeChannel(parsed, kClientMessageBytesMax, *remote->security_, server);
  return remote;
}

}  // namespace pregate::cli
