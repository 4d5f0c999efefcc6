#include "common/rpc/listen_check.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/http/listen_socket.h"
#include "common/rpc/port_file.h"

namespace pregate {
namespace {

absl::Status CheckCanListen(const char* option, const Address& address) {
  const absl::Status status = Listen(address).status();
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("--", option, ": ", status.message()));
}

}  // namespace

absl::Status CheckListenOptions(const Security& security, const std::string& listen,
                                const std::string& metrics_listen, const std::string& port_file) {
  ASSIGN_OR_RETURN(const Address grpc, security.ParseAddress("listen", listen));
  ASSIGN_OR_RETURN(const Address metrics, security.ParseAddress("metrics-listen", metrics_listen));
  if (metrics.is_unix()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-listen: ", metrics_listen, ": HTTP is served on TCP only"));
  }
  if (grpc.ToString() == metrics.ToString() && metrics.port != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-listen: ", metrics_listen, " is what --listen says, too"));
  }
  RETURN_IF_ERROR(CheckCanListen("listen", grpc));
  RETURN_IF_ERROR(CheckCanListen("metrics-listen", metrics));
  return PortFile::Claim(port_file).status();
}

}  // namespace pregate
