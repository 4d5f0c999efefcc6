// Sees every call of a server, whichever service it names, and tells of those that were cancelled:
// a peer that opens calls and resets them at once costs much more than it pays.
#pragma once

#include <grpcpp/server_builder.h>

#include <functional>
#include <string>

namespace pregate {

// `on_reset` gets the peer as grpc::ServerContext names it, on gRPC's threads, until the server has
// ended.
void CountResets(grpc::ServerBuilder& builder,
                 std::function<void(const std::string& peer)> on_reset);

}  // namespace pregate
