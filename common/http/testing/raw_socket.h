// A blocking TCP client that sends and reads bytes, for tests of what a server does with peers that
// do not speak its protocol.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "common/base/files.h"
#include "common/config/address.h"
#include "gtest/gtest.h"

namespace pregate::testing {

class RawSocket {
 public:
  // To 127.0.0.1.
  explicit RawSocket(const Address& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to = {.sin_family = AF_INET,
                      .sin_port = htons(static_cast<uint16_t>(address.port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const timeval patience = {.tv_sec = 20};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }

  // False when the peer has gone.
  bool Write(const std::string& bytes) {
    return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Throws away what comes meanwhile: a server stops reading from a peer that does not. False when
  // it has gone, or takes nothing for 20 s.
  bool Pour(std::string_view bytes) {
    char thrown_away[1 << 16];
    while (!bytes.empty()) {
      pollfd ready = {.fd = fd_.get(), .events = POLLIN | POLLOUT, .revents = 0};
      if (poll(&ready, 1, 20000) != 1 || (ready.revents & (POLLERR | POLLHUP)) != 0) return false;
      if ((ready.revents & POLLIN) != 0 &&
          recv(fd_.get(), thrown_away, sizeof(thrown_away), MSG_DONTWAIT) <= 0) {
        return false;
      }
      if ((ready.revents & POLLOUT) == 0) continue;
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent > 0) bytes.remove_prefix(sent);
    }
    return true;
  }
  // Until `end` was read, or the peer's end.
  std::string ReadUntil(const std::string& end) {
    std::string read;
    char next = 0;
    while ((end.empty() || !read.ends_with(end)) && recv(fd_.get(), &next, 1, 0) == 1) read += next;
    return read;
  }
  std::string ReadAll() { return ReadUntil(""); }

 private:
  const UniqueFd fd_;
};

}  // namespace pregate::testing
