// Every limit of queues, retries, messages and loops that is not an option: name, value, unit, what
// it bounds. Options have their ranges where they are declared; both are printed at start.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

// X(constant, value, unit, meaning). One line defines the constant and its entry in AllLimits().
// clang-format off
#define PREGATE_LIMITS(X)                                                                                   \
  X(kClientMessageBytesMax, 4 << 20, "bytes", "one message from a client")                                  \
  X(kServiceMessageBytesMax, 64 << 20, "bytes", "one message between services (plans, results)")            \
  X(kConfigFileBytesMax, 1 << 20, "bytes", "a --config file")                                               \
  X(kContextTokensMax, 1 << 20, "tokens", "prompt and generated tokens of one sequence")                    \
  X(kPromptBytesMax, 3 << 20, "bytes", "text of one prompt, all chat messages together")                    \
  X(kChatMessagesMax, 1024, "messages", "one chat request")                                                 \
  X(kStopStringsMax, 16, "strings", "stop strings of one request")                                          \
  X(kStopStringBytesMax, 256, "bytes", "one stop string")                                                   \
  X(kStopTokensMax, 64, "tokens", "stop tokens of one request")                                             \
  X(kIdBytesMax, 128, "bytes", "a request_id or tenant")                                                    \
  X(kStreamQueueMessages, 1024, "messages", "answers waiting for a slow client before it is cancelled")     \
  X(kClientStreamsMax, 4096, "streams", "Generate calls open at once in the edge")                          \
  X(kEngineInboxMessages, 65536, "messages", "events waiting for the scheduler's loop")                     \
  X(kWorkerInboxMessages, 1024, "messages", "messages waiting for a worker's loop")                         \
  X(kLinkQueueMessages, 16384, "messages", "messages waiting in one service-to-service stream")             \
  X(kRouteMessageBytesMax, 256 << 10, "bytes", "one message between scheduler and router")                  \
  X(kRouterStreamsMax, 256, "streams", "Route streams open at once on a router")                            \
  X(kPlanRowsMax, 65536, "rows", "rows, adds or block updates of one step plan")                            \
  X(kStepTokensMax, 65536, "tokens", "one step")                                                            \
  X(kSeqSlotsMax, 65536, "slots", "sequences open at once on a worker")                                     \
  X(kWorkersMax, 256, "workers", "one cell")                                                                \
  X(kExpertsMax, 1024, "experts", "one model")                                                              \
  X(kVocabMax, 1 << 22, "tokens", "one vocabulary")                                                         \
  X(kLayersMax, 1024, "layers", "one model")                                                                \
  X(kResidentUnitsMax, 1 << 20, "units", "units named in one message")                                      \
  X(kKvBlocksMax, 1 << 26, "blocks", "KV blocks of one worker")                                             \
  X(kLogprobsMax, 20, "logprobs", "alternatives reported beside one token")                                 \
  X(kRendezvousBytesMax, 4096, "bytes", "the collective's opaque rendezvous")                               \
  X(kMeetBlobBytesMax, 64 << 10, "bytes", "what one rank tells the others when a group forms")               \
  X(kMeetingsMax, 8, "meetings", "groups that form at once at one worker; the oldest makes room")           \
  X(kMeetTimeoutMsMax, 60000, "ms", "one rank's wait for the others when a group forms")                    \
  X(kMeetAnswerGraceMs, 1000, "ms", "from a meeting's end until its host counts as silent")                 \
  X(kWorkerLinksMax, 8, "streams", "attached to one worker; the oldest that holds nothing makes room")       \
  X(kEpochAheadMax, 1 << 30, "epochs", "from a worker's last epoch to the next that it accepts")            \
  X(kLeaseMsMax, 3600000, "ms", "a silent scheduler's hold on a worker")                                    \
  X(kLeaseRenewMs, 250, "ms", "between two signs of life of a scheduler to its workers")                    \
  X(kWorkerAliveMs, 100, "ms", "between two signs of life of a worker to its scheduler")                    \
  X(kErrorTextBytesMax, 4096, "bytes", "an error's text in a message between services")                     \
  X(kReconnectBackoffMsMin, 50, "ms", "first wait before a lost link is dialled again")                     \
  X(kReconnectBackoffMsMax, 200, "ms", "longest wait before a lost link is dialled again")                  \
  X(kConnectTimeoutMs, 5000, "ms", "one attempt to dial a service, until its hello")                        \
  X(kConnectAttemptMs, 2000, "ms", "one address of a service: connection and TLS handshake")                \
  X(kKeepaliveIntervalMs, 10000, "ms", "between two HTTP/2 pings of a connection")                          \
  X(kKeepaliveTimeoutMs, 5000, "ms", "wait for a ping's answer before the connection counts as dead")       \
  X(kNameRefreshMsMin, 1000, "ms", "between two looks at the address of a host that is dialled")            \
  X(kHealthPollMs, 100, "ms", "between two looks at a service's readiness")                                 \
  X(kLoopHeartbeatMsMax, 700, "ms", "age of a loop's heartbeat or of a worker's progress while ready")      \
  X(kLoopStuckMsMin, 120000, "ms", "age of a loop's heartbeat at which a process is no longer live")        \
  X(kMetricsTimeoutMs, 2000, "ms", "a whole request, handshake included, or answer of the metrics port")    \
  X(kMetricsRequestBytesMax, 8192, "bytes", "body of a request to the metrics endpoint")                    \
  X(kTlsFileBytesMax, 1 << 20, "bytes", "one file of a --tls-dir")                                          \
  X(kTlsCertificatesMax, 64, "certificates", "one file of a --tls-dir, or a peer's chain")                  \
  X(kTlsRefreshMs, 1000, "ms", "between two looks at a --tls-dir for new files")                            \
  X(kTlsSecurityLevel, 2, "level", "OpenSSL's strength of a peer's keys and digests (2: 112 bits)")         \
  X(kRefusalLinesMax, 10, "lines", "log lines on refused peers in one kRefusalWindowMs")                    \
  X(kRequestLinesMax, 1000, "lines", "log lines on requests that ended, in one second")                     \
  X(kRefusalWindowMs, 10000, "ms", "after which refused peers are logged one by one again")
// clang-format on

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr int name = value;
PREGATE_LIMITS(PREGATE_LIMIT_CONSTANT)
#undef PREGATE_LIMIT_CONSTANT

// Relations that code relies on.
static_assert(kPromptBytesMax < kClientMessageBytesMax, "a prompt fits its message");
static_assert(kContextTokensMax * 2 * 5 < kServiceMessageBytesMax,
              "a sequence's tokens and routes, as varints, fit one plan");
static_assert(kHealthPollMs < kLoopHeartbeatMsMax && kHealthPollMs + kLoopHeartbeatMsMax < 1000,
              "a frozen loop turns unready within a second");
static_assert(int64_t{kWorkersMax} * kMeetBlobBytesMax < kServiceMessageBytesMax,
              "the blobs of all ranks fit one message");
static_assert(kLoopStuckMsMin > kMeetTimeoutMsMax, "a worker that waits for its group is live");
static_assert(kReconnectBackoffMsMin < kReconnectBackoffMsMax, "backoff grows");
static_assert(kLeaseRenewMs * 4 <= 1000, "a lease of a second outlasts some lost signs of life");
static_assert(kConnectAttemptMs < kConnectTimeoutMs, "a second address can be tried in one dial");

struct Limit {
  const char* name;  // without the k
  int64_t value;
  const char* unit;
  const char* meaning;
};
absl::Span<const Limit> AllLimits();

}  // namespace pregate
