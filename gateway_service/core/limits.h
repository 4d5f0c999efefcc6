// Limits of the HTTP front door, beside those of common/base/limits.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pregate::gateway {

inline constexpr size_t kHttpHeadBytesMax = 16 << 10;       // bytes: request line and headers
inline constexpr int64_t kHttpBodyBytesMax = 8 << 20;       // bytes: one request's body
inline constexpr int64_t kHttpBodiesBytesMax = 256 << 20;   // bytes: bodies on their way, together
inline constexpr size_t kHttpUnsentBytesMax = 64 << 10;     // bytes: of an answer, for its client
inline constexpr int kHttpSendBufferBytes = 128 << 10;      // bytes: the kernel's, for one client
inline constexpr int kHttpHeadMsMax = 10000;                // ms: from a request's first byte
inline constexpr int kHttpBodyMsMax = 60000;                // ms: a whole body
inline constexpr int kHttpIdleMsMax = 75000;                // ms: between two requests
inline constexpr int kHttpStuckMsMax = 5000;                // ms: a write without any progress
inline constexpr int kHttpLingerMsMax = 1000;               // ms: for a refused client to read why
inline constexpr int kHttpConnectionsMax = 8192;            // connections
inline constexpr int kApiTokensMax = 4096;                  // tokens of one file
inline constexpr int64_t kApiTokensFileBytesMax = 1 << 20;  // bytes
inline constexpr int kApiTokensRefreshMs = 1000;            // ms: between two looks at the file
inline constexpr int kPromptsMax = 128;                     // prompts of one request
inline constexpr size_t kToolCallBytesMax = 256 << 10;      // bytes: JSON of calls in an answer
inline constexpr int kToolCallsRequiredMax = 16;       // calls of one answer that must have some
inline constexpr int kSchedulersMax = 64;              // that one gateway knows
inline constexpr int kChannelsPerScheduler = 4;        // connections to each
inline constexpr int64_t kCallsPerChannel = 512;       // before another connection is used
inline constexpr int kSchedulerProbeMs = 250;          // ms: between two questions to each
inline constexpr int kSchedulerProbeTimeoutMs = 1000;  // ms: for its answer
inline constexpr int kSchedulerLateProbesMax = 3;      // in a row, of one that stays ready

}  // namespace pregate::gateway
