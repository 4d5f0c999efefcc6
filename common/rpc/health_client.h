// Asks a service whether it is ready (grpc.health.v1).
#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pregate {

// Thread-safe.
class HealthClient {
 public:
  explicit HealthClient(std::shared_ptr<grpc::Channel> channel) : channel_(std::move(channel)) {}

  // Whether it serves now; an error when it does not answer within `timeout`.
  absl::StatusOr<bool> Check(absl::Duration timeout) const;
  // Follows the service's changes, also over restarts of it, until it serves (or does not); false
  // when `timeout` passes first. A service that does not answer does not serve.
  bool WaitUntil(bool serving, absl::Duration timeout) const;

 private:
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace pregate
