// Sees every call of a server, whichever service it names, and tells of those that were cancelled:
// a peer that opens calls and resets them at once costs much more than it pays.
#pragma once

#include <grpcpp/server_builder.h>

#include <functional>
#include <string>

#include "absl/time/time.h"

namespace pregate {

// What one connection may cancel: kConnectionResetsMax calls at once, which come back at
// kConnectionResetsPerSecond. It counts calls and not a rate: a busy machine works a flood off
// slowly, and pays for it all the same. Not thread-safe.
class ResetAllowance {
 public:
  // One more call was cancelled. False where the connection has had enough.
  bool Allow(absl::Time now);

 private:
  double used_ = 0;  // calls
  absl::Time last_ = absl::InfinitePast();
};

// `on_reset` gets the peer as grpc::ServerContext names it, on gRPC's threads, until the server has
// ended.
void CountResets(grpc::ServerBuilder& builder,
                 std::function<void(const std::string& peer)> on_reset);

}  // namespace pregate
