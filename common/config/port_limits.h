// The limits of connections and ports, in the form of limits.h: apart from it because few files use
// them, and everything includes that one.
#pragma once

#include "common/config/limits.h"

// clang-format off
#define PREGATE_PORT_LIMITS(X)                                                                              \
  X(kSlowClientMsMax, 5000, "ms", "one write to a client that does not read before it is cancelled")         \
  X(kRpcConnectionsMax, 4096, "connections", "open at a gRPC port; the longest silent one makes room")       \
  X(kDescriptorsReserved, 256, "descriptors", "of the process that are not for connections")                 \
  X(kHandshakeTimeoutMs, 5000, "ms", "from a connection to its TLS handshake and HTTP/2 settings")           \
  X(kConnectionIdleMsMax, 300000, "ms", "a connection of a gRPC port that has no call")                      \
  X(kConnectionResetsMax, 2000, "calls", "cancelled by one connection in kResetWindowMs before it is cut")   \
  X(kResetWindowMs, 1000, "ms", "in which cancelled calls are counted")                                      \
  X(kSelfProbeIntervalMs, 2000, "ms", "between two calls of a service to its own port")                      \
  X(kSelfProbeTimeoutMs, 2000, "ms", "one such call, its new connection included")                           \
  X(kSelfProbesFailedMax, 10, "calls", "that failed in a row: the process ends")                             \
  X(kRouterPingMs, 200, "ms", "between two questions to the router whether its loop turns")                  \
  X(kMetricsConnectionsMax, 64, "connections", "open at the metrics port; the longest silent one makes room")\
  X(kMetricsIdleMsMax, 30000, "ms", "wait for the next request of a connection of the metrics port")         \
  X(kMetricsHeaderBytesMax, 8192, "bytes", "head of a request to the metrics endpoint")
// clang-format on

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr int name = value;
PREGATE_PORT_LIMITS(PREGATE_LIMIT_CONSTANT)
#undef PREGATE_LIMIT_CONSTANT

static_assert(kHealthPollMs + kRouterPingMs < kLoopHeartbeatMsMax, "a router is asked in time");

}  // namespace pregate
