#include "common/rpc/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

grpc::ChannelArguments MakeArguments(int message_bytes_max) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(message_bytes_max);
  args.SetMaxSendMessageSize(message_bytes_max);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveIntervalMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectBackoffMsMin);
  // By its use, how long one attempt may take: more than a backoff, for a TLS handshake on a busy
  // machine, and less than a dial, for an address that swallows packets (a dead node's).
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectAttemptMs);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectBackoffMsMax);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A pod that is replaced has another address: gRPC's default looks a name up every 30 s at most.
  args.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, kNameRefreshMsMin);
  // One lost packet must not cost c-ares' own series of tries (a minute and more).
  args.SetInt(GRPC_ARG_DNS_ARES_QUERY_TIMEOUT_MS, kConnectTimeoutMs);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // a proxy variable must not catch loopback
  return args;
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max,
                                           const Security& security, RoleSet server) {
  PREGATE_CHECK(security.encrypted() || StaysOnThisMachine(address), "plaintext to ",
                address.ToString());
  return grpc::CreateCustomChannel(address.ToString(), security.MakeChannelCredentials(server),
                                   MakeArguments(message_bytes_max));
}

std::shared_ptr<grpc::Channel> MakeChannel(const Address& address, int message_bytes_max) {
  PREGATE_CHECK(StaysOnThisMachine(address), "plaintext to ", address.ToString());
  return grpc::CreateCustomChannel(address.ToString(), grpc::InsecureChannelCredentials(),
                                   MakeArguments(message_bytes_max));
}

void NameRefresh::Refresh() {
  const absl::Time now = absl::Now();
  if (now - last_ < absl::Milliseconds(kNameRefreshMsMin)) return;
  last_ = now;
  grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
}

}  // namespace pregate
