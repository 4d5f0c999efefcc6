// HTTP/2 by hand (RFC 9113), for peers that gRPC's own client cannot be: as bytes that open a gRPC call.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pregate::testing {

inline constexpr absl::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum Http2FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9
};
inline constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8;

template <typename T>
std::string BigEndian(T value) {
  std::string bytes(sizeof(T), '\0');
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<char>(value >> (8 * (sizeof(T) - 1 - i)));
  }
  return bytes;
}

// REQUIRES: the payload has less than 16 MiB.
inline std::string Http2Frame(uint8_t type, uint8_t flags, uint32_t stream,
                              absl::string_view payload) {
  const std::string size = BigEndian(static_cast<uint32_t>(payload.size())).substr(1);
  return absl::StrCat(size, BigEndian(type), BigEndian(flags), BigEndian(stream), payload);
}

// The header block of a call of `path`, "/pregate.v1.Inference/Generate": literals that enter no table.
// REQUIRES: path and authority are shorter than 127 bytes.
inline std::string GrpcCallHeaders(absl::string_view path, absl::string_view authority) {
  const auto header = [](absl::string_view name, absl::string_view value) {
    return absl::StrCat(BigEndian(uint8_t{0}), BigEndian(static_cast<uint8_t>(name.size())), name,
                        BigEndian(static_cast<uint8_t>(value.size())), value);
  };
  // Method POST and scheme http are numbers 3 and 6 of the static table.
  return absl::StrCat("\x83\x86", header(":path", path), header(":authority", authority),
                      header("te", "trailers"), header("content-type", "application/grpc"));
}

}  // namespace pregate::testing
