#include "common/http/listen_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int kBacklog = 1024;  // the kernel's own limit is usually 4096

absl::Status CannotBind(const Address& address, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat(address.ToString(), " cannot be bound: ", why));
}

// UNAVAILABLE when another has it, NOT_FOUND when this machine has no such address.
absl::StatusOr<UniqueFd> BindAndListen(const Address& address, const sockaddr* socket_address,
                                       socklen_t size) {
  const int family = socket_address->sa_family;
  UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.ok()) return CannotBind(address, strerror(errno));
  // Without SO_REUSEPORT, under which two processes would share one port.
  const int yes = 1, no = 0;
  if (family != AF_UNIX) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  // "::" takes IPv4 too, whatever the system's default.
  if (family == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
  if (bind(fd.get(), socket_address, size) != 0 || listen(fd.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE) return CannotBind(address, "another process listens there");
    return absl::NotFoundError(strerror(errno));
  }
  return fd;
}

absl::StatusOr<int> PortOf(const UniqueFd& fd) {
  sockaddr_storage bound = {};
  socklen_t size = sizeof(bound);
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return absl::UnavailableError(strerror(errno));
  }
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

absl::StatusOr<ListenSockets> ListenOnTcp(const Address& address) {
  const addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (failed != 0) return CannotBind(address, gai_strerror(failed));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  ListenSockets sockets;
  sockets.bound = address;
  absl::Status why_not;
  for (const addrinfo* next = found; next != nullptr; next = next->ai_next) {
    sockaddr_storage one = {};
    memcpy(&one, next->ai_addr, next->ai_addrlen);
    // All addresses of a name have the port that the first one took.
    const in_port_t port = htons(static_cast<uint16_t>(sockets.bound.port));
    if (one.ss_family == AF_INET6) reinterpret_cast<sockaddr_in6&>(one).sin6_port = port;
    if (one.ss_family == AF_INET) reinterpret_cast<sockaddr_in&>(one).sin_port = port;
    auto fd = BindAndListen(sockets.bound, reinterpret_cast<sockaddr*>(&one), next->ai_addrlen);
    if (absl::IsUnavailable(fd.status())) return fd.status();
    if (!fd.ok()) {  // a name may have addresses that this machine lacks (IPv6 switched off)
      why_not = fd.status();
      continue;
    }
    ASSIGN_OR_RETURN(sockets.bound.port, PortOf(*fd));
    sockets.fds.push_back(*std::move(fd));
  }
  if (sockets.fds.empty()) return CannotBind(address, why_not.message());
  return sockets;
}

// Why a Unix socket cannot be made there; "" where it can, also in place of one that is dead.
absl::string_view WhyTaken(const sockaddr_un& address) {
  struct stat file = {};
  if (lstat(address.sun_path, &file) != 0) return "";
  if (!S_ISSOCK(file.st_mode)) return "a file that is no socket is there";
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int failed =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  // Another error than this is a living one's, too: its backlog may be full.
  return failed != 0 && errno == ECONNREFUSED ? "" : "another process listens there";
}

absl::StatusOr<ListenSockets> ListenOnUnix(const Address& address) {
  sockaddr_un at = {.sun_family = AF_UNIX};
  if (address.path.size() >= sizeof(at.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("address ", address.ToString(), ": more than ",
                                                   sizeof(at.sun_path) - 1, " bytes"));
  }
  memcpy(at.sun_path, address.path.data(), address.path.size());
  // Two that start at once must not both find it free.
  const std::string folder = std::filesystem::absolute(address.path).parent_path().string();
  const UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.ok()) flock(lock.get(), LOCK_EX);
  if (const absl::string_view why = WhyTaken(at); !why.empty()) return CannotBind(address, why);
  unlink(at.sun_path);
  ListenSockets sockets;
  sockets.bound = address;
  auto fd = BindAndListen(address, reinterpret_cast<sockaddr*>(&at), sizeof(at));
  if (absl::IsNotFound(fd.status())) return CannotBind(address, fd.status().message());
  RETURN_IF_ERROR(fd.status());
  sockets.fds.push_back(*std::move(fd));
  return sockets;
}

}  // namespace

ListenSockets::~ListenSockets() {
  if (bound.is_unix() && !fds.empty()) unlink(bound.path.c_str());
}

absl::StatusOr<ListenSockets> Listen(const Address& address) {
  return address.is_unix() ? ListenOnUnix(address) : ListenOnTcp(address);
}

}  // namespace pregate
