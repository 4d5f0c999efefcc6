// Every limit that is not an option: name, value, unit, what it bounds. Options have their ranges
// where they are declared; both are printed at start.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

// X(constant, value, unit, meaning). One line defines the constant and its entry in AllLimits().
// clang-format off
// Messages, queues, links and loops.
#define PREGATE_SERVICE_LIMITS(X) \
  X(kClientMessageBytesMax, 4 << 20, "bytes", "one message from a client")                                \
  X(kServiceMessageBytesMax, 64 << 20, "bytes", "one message between services (plans, results)")          \
  X(kConfigFileBytesMax, 1 << 20, "bytes", "a --config file")                                             \
  X(kContextTokensMax, 1 << 20, "tokens", "prompt and generated tokens of one sequence")                  \
  X(kPromptBytesMax, 3 << 20, "bytes", "text of one prompt, all chat messages together")                  \
  X(kChatMessagesMax, 1024, "messages", "one chat request")                                               \
  X(kStopStringsMax, 16, "strings", "stop strings of one request")                                        \
  X(kStopStringBytesMax, 256, "bytes", "one stop string")                                                 \
  X(kStopTokensMax, 64, "tokens", "stop tokens of one request")                                           \
  X(kIdBytesMax, 128, "bytes", "a request_id or tenant")                                                  \
  X(kStreamQueueMessages, 1024, "messages", "answers waiting for a slow client before it is cancelled")   \
  X(kClientStreamsMax, 4096, "streams", "Generate calls open at once in the edge")                        \
  X(kEngineInboxMessages, 65536, "messages", "events waiting for the scheduler's loop")                   \
  X(kWorkerInboxMessages, 1024, "messages", "messages waiting for a worker's loop")                       \
  X(kLinkQueueMessages, 16384, "messages", "messages waiting in one service-to-service stream")           \
  X(kRouteMessageBytesMax, 256 << 10, "bytes", "one message between scheduler and router")                \
  X(kRouterStreamsMax, 256, "streams", "Route streams open at once on a router")                          \
  X(kPlanRowsMax, 65536, "rows", "rows, adds or block updates of one step plan")                          \
  X(kStepTokensMax, 65536, "tokens", "one step")                                                          \
  X(kSeqSlotsMax, 65536, "slots", "sequences open at once on a worker")                                   \
  X(kWorkersMax, 256, "workers", "one cell")                                                              \
  X(kExpertsMax, 256, "experts", "one model")                                                             \
  X(kLayersMax, 1024, "layers", "one model")                                                              \
  X(kResidentUnitsMax, 1 << 20, "units", "units named in one message")                                    \
  X(kStepActivitiesMax, 1024, "activities", "of one worker in one step that are told")                    \
  X(kKvBlocksMax, 1 << 26, "blocks", "KV blocks of one worker")                                           \
  X(kKvCacheBytesMin, int64_t{1} << 16, "bytes", "memory of a KV cache, at least")                           \
  X(kKvCacheBytesMax, int64_t{1} << 43, "bytes", "memory of a KV cache")                                      \
  X(kThreadsMax, 1024, "threads", "compute threads of one device")                                          \
  X(kLogprobsMax, 20, "logprobs", "alternatives reported beside one token")                               \
  X(kDraftTokensMax, 16, "tokens", "drafts of one row that the scheduler makes")                          \
  X(kRendezvousBytesMax, 4096, "bytes", "the collective's opaque rendezvous")                             \
  X(kMeetBlobBytesMax, 64 << 10, "bytes", "what one rank tells the others when a group forms")            \
  X(kMeetingsMax, 8, "meetings", "groups that form at once at one worker; the oldest makes room")         \
  X(kMeetTimeoutMsMax, 60000, "ms", "one rank's wait for the others when a group forms")                  \
  X(kMeetAnswerGraceMs, 1000, "ms", "from a meeting's end until its host counts as silent")               \
  X(kWorkerLinksMax, 8, "streams", "attached to one worker; the oldest that holds nothing makes room")    \
  X(kEpochAheadMax, 1 << 30, "epochs", "from a worker's last epoch to the next that it accepts")          \
  X(kLeaseMsMax, 3600000, "ms", "a silent scheduler's hold on a worker")                                  \
  X(kLeaseRenewMs, 250, "ms", "between two signs of life of a scheduler to its workers")                  \
  X(kWorkerAliveMs, 100, "ms", "between two signs of life of a worker to its scheduler")                  \
  X(kErrorTextBytesMax, 4096, "bytes", "an error's text in a message between services")                   \
  X(kReconnectBackoffMsMin, 50, "ms", "first wait before a lost link is dialled again")                   \
  X(kReconnectBackoffMsMax, 200, "ms", "longest wait before a lost link is dialled again")                \
  X(kConnectTimeoutMs, 5000, "ms", "one attempt to dial a service, until its hello")                      \
  X(kConnectAttemptMs, 2000, "ms", "one address of a service: connection and TLS handshake")              \
  X(kKeepaliveIntervalMs, 10000, "ms", "between two HTTP/2 pings of a connection")                        \
  X(kKeepaliveTimeoutMs, 5000, "ms", "wait for a ping's answer before the connection counts as dead")     \
  X(kNameRefreshMsMin, 1000, "ms", "between two looks at the address of a host that is dialled")          \
  X(kHealthPollMs, 100, "ms", "between two looks at a service's readiness")                               \
  X(kLoopHeartbeatMsMax, 700, "ms", "age of a loop's heartbeat or of a worker's progress while ready")    \
  X(kLoopStuckMsMin, 120000, "ms", "age of a loop's heartbeat at which a process is no longer live")      \
  X(kMetricsTimeoutMs, 2000, "ms", "a whole request, handshake included, or answer of the metrics port")  \
  X(kMetricsRequestBytesMax, 8192, "bytes", "body of a request to the metrics endpoint")                  \
  X(kTlsFileBytesMax, 1 << 20, "bytes", "one file of a --tls-dir")                                        \
  X(kTlsCertificatesMax, 64, "certificates", "one file of a --tls-dir, or a peer's chain")                \
  X(kTlsRefreshMs, 1000, "ms", "between two looks at a --tls-dir for new files")                          \
  X(kTlsSecurityLevel, 2, "level", "OpenSSL's strength of a peer's keys and digests (2: 112 bits)")       \
  X(kRefusalLinesMax, 10, "lines", "log lines on refused peers in one kRefusalWindowMs")                  \
  X(kRequestLinesMax, 1000, "lines", "log lines on requests that ended, in one second")                   \
  X(kTraceQueueRequests, 1024, "requests", "whose spans wait for the collector; others' are lost")        \
  X(kTraceExportMsMax, 2000, "ms", "one export of spans to the collector")                                \
  X(kTraceFlushMsMax, 1000, "ms", "last spans, as the program ends")                                      \
  X(kRefusalWindowMs, 10000, "ms", "after which refused peers are logged one by one again")
// Connections and ports.
#define PREGATE_PORT_LIMITS(X) \
  X(kSlowClientMsMax, 5000, "ms", "one write to a client that does not read before it is cancelled")           \
  X(kRpcConnectionsMax, 4096, "connections", "open at a gRPC port; the longest silent one makes room")         \
  X(kDescriptorsReserved, 256, "descriptors", "of the process that are not for connections")                   \
  X(kHandshakeTimeoutMs, 5000, "ms", "from a connection to its TLS handshake and HTTP/2 settings")             \
  X(kConnectionIdleMsMax, 300000, "ms", "a connection of a gRPC port that has no call")                        \
  X(kConnectionResetsMax, 2000, "calls", "cancelled by one connection, beyond those per second, until cut")    \
  X(kConnectionResetsPerSecond, 100, "calls/s", "one connection may cancel for as long as it likes")           \
  X(kSelfProbeIntervalMs, 2000, "ms", "between two calls of a service to its own port")                        \
  X(kSelfProbeTimeoutMs, 2000, "ms", "one such call, its new connection included")                             \
  X(kSelfProbesFailedMax, 10, "calls", "that failed in a row: the process ends")                               \
  X(kRouterPingMs, 200, "ms", "between two questions to the router whether its loop turns")                    \
  X(kMetricsConnectionsMax, 64, "connections", "open at the metrics port; the longest silent one makes room")  \
  X(kMetricsIdleMsMax, 30000, "ms", "wait for the next request of a connection of the metrics port")           \
  X(kMetricsHeaderBytesMax, 8192, "bytes", "head of a request to the metrics endpoint")
// What a model's files may claim; each is checked before anything is allocated from the claim.
#define PREGATE_MODEL_LIMITS(X) \
  X(kVocabSizeMax, int64_t{1} << 20, "tokens", "one vocabulary")                            \
  X(kHiddenMax, int64_t{1} << 16, "channels", "the residual stream")                        \
  X(kFfnWidthMax, int64_t{1} << 20, "neurons", "one layer")                                 \
  X(kHeadsMax, int64_t{1024}, "heads", "query heads of a layer")                            \
  X(kHeadDimMax, int64_t{1024}, "channels", "one head")                                     \
  X(kPositionMax, int64_t{1} << 24, "tokens", "context that a model claims")                \
  X(kRouterLayersMax, int64_t{64}, "layers", "a router")                                    \
  X(kRouterHiddenMax, int64_t{1} << 14, "channels", "a router")                             \
  X(kEosTokensMax, int64_t{64}, "tokens", "ids that end a text")                            \
  X(kArchitecturesMax, int64_t{16}, "names", "architectures in a config.json")              \
  X(kTensorsMax, int64_t{1} << 17, "tensors", "one checkpoint")                             \
  X(kTensorRankMax, 4, "axes", "one tensor")                                                \
  X(kTensorNameBytesMax, size_t{256}, "bytes", "name of a tensor")                          \
  X(kShardsMax, int64_t{1024}, "files", "one checkpoint")                                   \
  X(kSafetensorsHeaderBytesMax, size_t{16} << 20, "bytes", "header of a safetensors file")  \
  X(kConfigBytesMax, size_t{1} << 20, "bytes", "a config.json")                             \
  X(kIndexBytesMax, size_t{32} << 20, "bytes", "a shard index or a manifest")               \
  X(kPipedFileBytesMax, uint64_t{16} << 30, "bytes", "a file that is read from a pipe")     \
  X(kJsonDepthMax, 32, "levels", "nested objects and arrays of JSON")                       \
  X(kTokenTextBytesMax, size_t{4096}, "bytes", "text of one token")                         \
  X(kSentencePieceModelBytesMax, size_t{16} << 20, "bytes", "a tokenizer.model")            \
  X(kTokenizerStepsMax, size_t{64}, "steps", "normalizers, pre-tokenizers or decoders")     \
  X(kNormalizerGrowthMax, int64_t{128}, "times", "by which normalizers may lengthen a text")\
  X(kRegexBytesMax, size_t{4096}, "bytes", "a regular expression of a tokenizer.json")      \
  X(kRegexDepthMax, 128u, "levels", "nested parts of such an expression")                   \
  X(kRegexStackMax, 1u << 20, "entries", "stack of one match of such an expression")        \
  X(kRegexRetriesMin, uint64_t{1} << 26, "retries", "of such an expression in one text")    \
  X(kRegexRetriesPerByte, uint64_t{128}, "retries", "further ones, for each byte of it")    \
  X(kGgufKeysMax, int64_t{4096}, "keys", "metadata of a GGUF file")                         \
  X(kGgufStringBytesMax, size_t{1} << 24, "bytes", "one string of a GGUF file")             \
  X(kGgufAlignmentMax, int64_t{1} << 20, "bytes", "alignment of tensors in a GGUF file")    \
  X(kHashThreadsMax, 16u, "threads", "that hash one file")                                  \
  X(kLoadThreadsMax, 16, "threads", "that read weights for a card, or without --threads")  \
  X(kStagedWeightBytesMax, size_t{200} << 20, "bytes", "pinned, of weights on their way to a card")
// What a chat template may do while it lays out one conversation.
#define PREGATE_TEMPLATE_LIMITS(X) \
  X(kTemplateSourceBytesMax, size_t{1} << 20, "bytes", "source of a chat template")               \
  X(kTemplatesMax, size_t{16}, "templates", "named chat templates of one model")                  \
  X(kTemplateDepthMax, 200, "levels", "nested expressions, statements, calls and values")         \
  X(kTemplateStepsMax, int64_t{1} << 22, "steps", "evaluations, and 64 bytes of text each")       \
  X(kTemplateBytesMax, int64_t{256} << 20, "bytes", "values that a running template holds")       \
  X(kTemplateOutputBytesMax, size_t{8} << 20, "bytes", "text that a template prints")             \
  X(kTemplateRangeMax, int64_t{100000}, "numbers", "one range() of a template")                   \
  X(kConversationBytesMax, size_t{8} << 20, "bytes", "a file of messages and tools")
// What the text of an answer may be held to, and what compiling that may cost.
#define PREGATE_GRAMMAR_LIMITS(X) \
  X(kConstraintBytesMax, size_t{256} << 10, "bytes", "a schema, expression or all choices of a request") \
  X(kConstraintChoicesMax, size_t{4096}, "texts", "choices of one request")                       \
  X(kMarkBytesMax, size_t{64}, "bytes", "what begins, or ends, JSON in a free text")                \
  X(kMarkedSpacesMax, 4, "bytes", "of white space between such a mark and the JSON")              \
  X(kConstraintsKeptMax, size_t{64}, "constraints", "compiled ones that are kept for the next request") \
  X(kConstraintsCompilingMax, size_t{64}, "constraints", "that wait to be compiled")              \
  X(kGrammarRegexBytesMax, size_t{4096}, "bytes", "a regular expression of a constraint")         \
  X(kGrammarRegexDepthMax, 64, "levels", "nested groups of such an expression")                   \
  X(kGrammarRepeatsMax, int64_t{32768}, "times", "counted repetitions in a constraint")           \
  X(kGrammarStepsMax, int64_t{1} << 22, "steps", "of building one constraint's automaton")        \
  X(kGrammarStatesMax, size_t{1} << 16, "states", "one constraint's automaton")                   \
  X(kGrammarStacksMax, size_t{256}, "stacks", "ways to read one text that are followed at once")  \
  X(kGrammarMaskBytesMax, size_t{32} << 20, "bytes", "masks that are kept of one constraint")     \
  X(kGrammarWarmNodesMax, int64_t{1} << 19, "nodes", "of the vocabulary's trie, walked ahead of use") \
  X(kMatcherRollbackMax, size_t{64}, "tokens", "that a matcher can take back")                    \
  X(kJsonIndentMax, int64_t{16}, "spaces", "at the beginning of a line of a constrained JSON text") \
  X(kSchemaStepsMax, int64_t{1} << 20, "steps", "of reading one JSON Schema")                     \
  X(kSchemaNestingMax, 64, "levels", "of a schema's references and merged parts")
// clang-format on
#define PREGATE_LIMITS(X)    \
  PREGATE_SERVICE_LIMITS(X)  \
  PREGATE_PORT_LIMITS(X)     \
  PREGATE_MODEL_LIMITS(X)    \
  PREGATE_TEMPLATE_LIMITS(X) \
  PREGATE_GRAMMAR_LIMITS(X)

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr auto name = value;
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
static_assert(kHealthPollMs + kRouterPingMs < kLoopHeartbeatMsMax, "a router is asked in time");
static_assert(kConnectAttemptMs < kConnectTimeoutMs, "a second address can be tried in one dial");

struct Limit {
  const char* name;  // without the k
  int64_t value;
  const char* unit;
  const char* meaning;
};
absl::Span<const Limit> AllLimits();

}  // namespace pregate
