#include "common/rpc/listen_check.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/port_file.h"

namespace pregate {
namespace {

absl::Status CannotBind(const Address& address, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat(address.ToString(), " cannot be bound: ", why));
}

// errno of binding a socket to `at`, which is given back; 0: it can be bound.
int TryBind(const sockaddr* at, socklen_t size) {
  const int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;  // as gRPC does: what is left of connections that ended is no hindrance
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const int error = bind(fd, at, size) == 0 ? 0 : errno;
  close(fd);
  return error;
}

absl::Status CheckTcp(const Address& address) {
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failed != 0) return CannotBind(address, gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  int other_error = 0;
  bool any = false;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int error = TryBind(at->ai_addr, at->ai_addrlen);
    if (error == EADDRINUSE) return CannotBind(address, "another process listens there");
    if (error != 0) other_error = error;
    any |= error == 0;
  }
  return any ? absl::OkStatus() : CannotBind(address, std::strerror(other_error));
}

// A socket's file says nothing: it stays when its server is killed. Who listens accepts; a queue
// that is full belongs to one who lives.
absl::Status CheckUnix(const Address& address) {
  struct stat info = {};
  if (lstat(address.path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : CannotBind(address, std::strerror(errno));
  }
  if (!S_ISSOCK(info.st_mode)) return CannotBind(address, "a file that is no socket is there");
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return CannotBind(address, std::strerror(errno));
  sockaddr_un at = {.sun_family = AF_UNIX};
  address.path.copy(at.sun_path, sizeof(at.sun_path) - 1);
  const int error =
      connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0 ? 0 : errno;
  close(fd);
  if (error == ECONNREFUSED || error == ENOENT) return absl::OkStatus();
  return CannotBind(address, error == 0 || error == EAGAIN ? "another process listens there"
                                                           : std::strerror(error));
}

// Locks the folder of a socket's file, which needs no file of its own and ends with the process.
absl::StatusOr<int> LockFolderOf(const Address& address) {
  const size_t slash = address.path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : address.path.substr(0, slash + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return CannotBind(address, std::strerror(errno));
  while (flock(fd, LOCK_EX) != 0 && errno == EINTR) {
  }
  return fd;
}

absl::Status Named(const char* option, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("--", option, ": ", status.message()));
}

}  // namespace

BindTurn::BindTurn(BindTurn&& other) noexcept : folder_(std::exchange(other.folder_, -1)) {}
BindTurn::~BindTurn() {
  if (folder_ >= 0) close(folder_);
}

absl::StatusOr<BindTurn> BindTurn::Take(const Address& address) {
  if (!address.is_unix()) {
    RETURN_IF_ERROR(CheckTcp(address));
    return BindTurn(-1);
  }
  ASSIGN_OR_RETURN(const int folder, LockFolderOf(address));
  BindTurn turn(folder);
  RETURN_IF_ERROR(CheckUnix(address));
  return turn;
}

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
  RETURN_IF_ERROR(Named("listen", BindTurn::Take(grpc).status()));
  RETURN_IF_ERROR(Named("metrics-listen", BindTurn::Take(metrics).status()));
  return PortFile::Claim(port_file).status();
}

}  // namespace pregate
