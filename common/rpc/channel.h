// How one service (or the CLI) dials another: keepalive, limits and backoff in one place.
#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "common/config/address.h"

namespace pregate {

// A lazy plaintext channel with its own connection. REQUIRES: `address` passed RequireLocal.
std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max);

}  // namespace pregate
