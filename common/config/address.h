// Where a service listens or is dialled: "127.0.0.1:7600", "[::1]:7600", "localhost:7600" or
// "unix:/run/pregate.sock", and with TLS any other machine's. Plaintext stays on this machine.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

struct Address {
  std::string host;  // a name or an IP address without brackets; empty for a Unix socket
  int port = 0;      // 0 when listening: any free port
  std::string path;  // of a Unix socket

  bool is_unix() const { return !path.empty(); }
  bool is_loopback() const;
  bool is_wildcard() const;      // 0.0.0.0 or ::, which only a listener understands
  std::string ToString() const;  // parses back equal; what gRPC takes as a target
};

absl::StatusOr<Address> ParseAddress(absl::string_view text);

// Whether plaintext to or at `address` stays on this machine: loopback or a Unix socket.
bool StaysOnThisMachine(const Address& address);

// Parses the value of an option, which errors name. Unless `encrypted`, refuses what does not stay
// on this machine.
absl::StatusOr<Address> ParseAddressOption(absl::string_view option, absl::string_view text,
                                           bool encrypted);

}  // namespace pregate
