// Where a service listens or is dialled: "127.0.0.1:7600", "[::1]:7600", "localhost:7600" or
// "unix:/run/pregate.sock". Plaintext stays on this machine: any other host needs TLS, which is not
// built, so it is refused by RequireLocal.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

struct Address {
  std::string host;  // without brackets; empty for a Unix socket
  int port = 0;      // 0 when listening: any free port
  std::string path;  // of a Unix socket

  bool is_unix() const { return !path.empty(); }
  bool is_loopback() const;
  std::string ToString() const;  // parses back equal; what gRPC takes as a target
};

absl::StatusOr<Address> ParseAddress(absl::string_view text);

// Parses and refuses what is neither loopback nor a Unix socket. `option` names the option at
// fault.
absl::StatusOr<Address> RequireLocal(absl::string_view option, absl::string_view text);

}  // namespace pregate
