// Limits of the HTTP front door, and of what a scheduler shows there, beside those of
// common/base/limits.h; AllLimits() has both.
#pragma once

#include "common/base/limits.h"

// clang-format off
#define PREGATE_GATEWAY_LIMITS(X) \
  X(kHttpHeadBytesMax, size_t{16} << 10, "bytes", "request line and headers of an HTTP request")            \
  X(kHttpBodyBytesMax, int64_t{8} << 20, "bytes", "body of one HTTP request")                               \
  X(kHttpBodiesBytesMax, int64_t{256} << 20, "bytes", "bodies of HTTP requests on their way, together")     \
  X(kHttpUnsentBytesMax, size_t{64} << 10, "bytes", "of an HTTP answer that wait for its client")           \
  X(kHttpSendBufferBytes, 128 << 10, "bytes", "the kernel's, for one HTTP client")                          \
  X(kHttpHeadMsMax, 10000, "ms", "from an HTTP request's first byte to the end of its head")                \
  X(kHttpBodyMsMax, 60000, "ms", "a whole body of an HTTP request")                                         \
  X(kHttpIdleMsMax, 75000, "ms", "between two HTTP requests of a connection")                               \
  X(kHttpStuckMsMax, 5000, "ms", "a write to an HTTP client without any progress")                          \
  X(kHttpLingerMsMax, 1000, "ms", "for a refused HTTP client to read why")                                  \
  X(kHttpConnectionsMax, 8192, "connections", "open at the HTTP port")                                      \
  X(kApiTokensMax, 4096, "tokens", "one --api-tokens-file")                                                 \
  X(kApiTokensFileBytesMax, int64_t{1} << 20, "bytes", "an --api-tokens-file")                              \
  X(kApiTokensRefreshMs, 1000, "ms", "between two looks at an --api-tokens-file")                           \
  X(kPromptsMax, 128, "prompts", "of one request of completions")                                          \
  X(kToolCallBytesMax, size_t{256} << 10, "bytes", "JSON of tool calls in an answer")                       \
  X(kToolCallsRequiredMax, 16, "calls", "of one answer that must have some")                                \
  X(kSchedulersMax, 64, "schedulers", "that one gateway knows")                                             \
  X(kChannelsPerScheduler, 4, "connections", "of a gateway to each scheduler")                              \
  X(kCallsPerChannel, int64_t{512}, "calls", "on a connection to a scheduler before another is used")       \
  X(kSchedulerProbeMs, 250, "ms", "between two questions of a gateway to each scheduler")                   \
  X(kSchedulerProbeTimeoutMs, 1000, "ms", "a scheduler's answer to such a question")                        \
  X(kSchedulerLateProbesMax, 3, "questions", "late in a row of a scheduler that stays ready")               \
  X(kStepsShownMax, 200, "steps", "that a scheduler remembers for who looks on")                            \
  X(kActivitiesKeptMax, 4096, "activities", "of all workers together in a step that is remembered")         \
  X(kActivitiesShownMax, 1 << 17, "activities", "of all steps together in one GetClusterStatus")            \
  X(kUnitsShownMax, 1 << 20, "units", "of all workers together in one GetClusterStatus")
// clang-format on

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr auto name = value;
PREGATE_GATEWAY_LIMITS(PREGATE_LIMIT_CONSTANT)
#undef PREGATE_LIMIT_CONSTANT

}  // namespace pregate
