// HTTP/2 by hand: a peer that opens calls and resets them in the same breath.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/http/testing/raw_socket.h"

namespace pregate::testing {

inline std::string Http2Frame(char type, char flags, uint32_t stream, const std::string& payload) {
  const auto size = static_cast<uint32_t>(payload.size());
  std::string frame;
  for (const int shift : {16, 8, 0}) frame += static_cast<char>(size >> shift);
  frame += type;
  frame += flags;
  for (const int shift : {24, 16, 8, 0}) frame += static_cast<char>(stream >> shift);
  return frame + payload;
}

// With empty settings.
inline std::string Http2Preface() {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Http2Frame(4, 0, 0, "");
}

inline std::string RapidResets(const std::string& path, int first, int count) {
  const auto header = [](const std::string& name, const std::string& value) {
    return std::string(1, '\0') + static_cast<char>(name.size()) + name +
           static_cast<char>(value.size()) + value;
  };
  const std::string headers = "\x83\x86" + header(":path", path) + header(":authority", "x") +
                              header("te", "trailers") + header("content-type", "application/grpc");
  std::string frames;
  for (int i = first; i < first + count; ++i) {
    frames += Http2Frame(1, 4, 2 * i + 1, headers) +
              Http2Frame(3, 0, 2 * i + 1, std::string("\0\0\0\x08", 4));
  }
  return frames;
}

// Resets calls of `path` over one connection until the server has ended that; false: it has not
// within a minute.
inline bool CutsRapidResets(const Address& server, const std::string& path) {
  RawSocket peer(server);
  if (!peer.Write(Http2Preface())) return false;
  const absl::Time end = absl::Now() + absl::Minutes(1);
  for (int i = 0; absl::Now() < end; ++i) {
    if (!peer.Pour(RapidResets(path, 100 * i, 100))) return true;
  }
  return false;
}

}  // namespace pregate::testing
