// A peer that opens calls and resets them in the same breath.
#pragma once

#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/http/testing/raw_socket.h"
#include "common/rpc/testing/http2_frames.h"

namespace pregate::testing {

// With empty settings.
inline std::string Http2Opening() {
  return absl::StrCat(kHttp2Preface, Http2Frame(kSettings, 0, 0, ""));
}

inline std::string RapidResets(const std::string& path, int first, int count) {
  constexpr uint32_t kCancel = 8;
  const std::string headers = GrpcCallHeaders(path, "x");
  std::string frames;
  for (int i = first; i < first + count; ++i) {
    absl::StrAppend(&frames, Http2Frame(kHeaders, kEndHeaders, 2 * i + 1, headers),
                    Http2Frame(kRstStream, 0, 2 * i + 1, BigEndian(kCancel)));
  }
  return frames;
}

// Resets calls of `path` over one connection until the server has ended that; false: it has not
// within a minute.
inline bool CutsRapidResets(const Address& server, const std::string& path) {
  RawSocket peer(server);
  if (!peer.Write(Http2Opening())) return false;
  const absl::Time end = absl::Now() + absl::Minutes(1);
  for (int i = 0; absl::Now() < end; ++i) {
    if (!peer.Pour(RapidResets(path, 100 * i, 100))) return true;
  }
  return false;
}

}  // namespace pregate::testing
