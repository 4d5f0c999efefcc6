// How one service (or the CLI) dials another: keepalive, limits and backoff in one place.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "common/config/address.h"
#include "common/tls/grpc/security.h"

namespace pregate {

// A lazy channel with its own connection, to a server that is of one of `server` roles where
// `security`, which outlives the channel, is TLS. REQUIRES: plaintext stays on this machine.
std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max,
                                           const Security& security, RoleSet server);

// The same in plaintext, for tests.
std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max);

// Lets a channel look its host's name up again, for whoever dials again by itself: gRPC alone waits
// up to two minutes after a name that was not there. One thread.
class NameRefresh {
 public:
  explicit NameRefresh(std::shared_ptr<grpc::Channel> channel) : channel_(std::move(channel)) {}

  // After a dial that failed. Acts at most once in kNameRefreshMsMin.
  void Refresh();

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace pregate
