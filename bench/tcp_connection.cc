#include "bench/tcp_connection.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/address.h"

namespace pregate {

absl::StatusOr<UniqueFd> ConnectTcp(const std::string& address) {
  ASSIGN_OR_RETURN(const Address parsed, ParseAddress(address));
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(parsed.port))};
  if (inet_pton(AF_INET, parsed.host.c_str(), &to.sin_addr) != 1 ||
      connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
    return absl::UnavailableError(absl::StrCat(address, ": ", strerror(errno)));
  }
  const int yes = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  return fd;
}

}  // namespace pregate
