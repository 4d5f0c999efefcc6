// Asks a service whether it is ready (grpc.health.v1).
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pregate {

// The name under which grpc.health.v1 says whether a process lives, ready or not: its loop turns.
inline constexpr char kLiveService[] = "live";

// Whether it serves (or lives) now; an error when it does not answer within `timeout`.
absl::StatusOr<bool> IsServing(const std::shared_ptr<grpc::Channel>& channel,
                               absl::Duration timeout, const std::string& service = "");

// Follows the service's changes, also over restarts of it, until it serves (or does not); false
// when `timeout` passes first. A service that does not answer does not serve.
bool AwaitServing(const std::shared_ptr<grpc::Channel>& channel, bool serving,
                  absl::Duration timeout);

}  // namespace pregate
