// No server takes the place of one that lives: what is asked of an address before it is bound.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/address.h"
#include "common/rpc/security.h"

namespace pregate {

// Held while a server finds `address` free and binds it. gRPC removes a unix socket's file without
// asking who listens there, so that two servers must not do this at once; and it is content where
// one of a name's addresses can be bound. Not thread-safe.
class BindTurn {
 public:
  // UNAVAILABLE, with the address and why, where it cannot be bound: a server listens at one of the
  // addresses that a host has, a file that is no socket has the path, or this machine has no such
  // address. The file of a socket at which nobody listens is no hindrance.
  static absl::StatusOr<BindTurn> Take(const Address& address);
  BindTurn(BindTurn&& other) noexcept;
  BindTurn& operator=(BindTurn&&) = delete;
  ~BindTurn();

 private:
  explicit BindTurn(int folder) : folder_(folder) {}
  int folder_;  // of the socket's file, locked; -1 for TCP
};

// What every service asks before it loads: --listen and --metrics-listen can be parsed and bound,
// and --port-file is no living server's. Errors name the option. Nothing stays bound.
absl::Status CheckListenOptions(const Security& security, const std::string& listen,
                                const std::string& metrics_listen, const std::string& port_file);

}  // namespace pregate
