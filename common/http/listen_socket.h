// Binds and listens, the same way for every port of a program.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/base/files.h"
#include "common/config/address.h"

namespace pregate {

struct ListenSockets {
  ListenSockets() = default;
  ListenSockets(ListenSockets&&) = default;
  ListenSockets& operator=(ListenSockets&&) = default;
  ~ListenSockets();  // removes its Unix socket, while it still listens there

  std::vector<UniqueFd> fds;  // one for each address of the host; they do not block
  Address bound;              // with the port that was taken
};

// UNAVAILABLE with the address and the system's words when another server has it. A Unix socket
// that a dead server left is replaced, a living one's never.
absl::StatusOr<ListenSockets> Listen(const Address& address);

}  // namespace pregate
