// How one service (or the CLI) dials another: keepalive, limits and backoff in one place.
#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "common/config/address.h"
#include "common/rpc/security.h"

namespace pregate {

// A lazy channel with its own connection, to a server that is of one of `server` roles where
// `security`, which outlives the channel, is TLS. REQUIRES: plaintext stays on this machine.
std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max,
                                           const Security& security, RoleSet server);

// The same in plaintext, for tests.
std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max);

}  // namespace pregate
