#include "cli/remote_server.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
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

// gRPC tells the two apart by its words only.
absl::Status RemoteServer::Explain(absl::Status status) const {
  const absl::string_view said = status.message();
  const char* hint = nullptr;
  if (security_->encrypted() && absl::StrContains(said, "ALPN")) {
    hint = "; is this a gRPC port?";
  }
  if (!security_->encrypted() && absl::IsUnavailable(status) &&
      absl::StrContains(said, "failed to connect") && absl::StrContains(said, "Socket closed")) {
    hint = "; does the server speak TLS? give --tls-dir";
  }
  return hint == nullptr ? status : absl::Status(status.code(), absl::StrCat(said, hint));
}

}  // namespace pregate::cli
