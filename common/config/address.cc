#include "common/config/address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr size_t kUnixPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kHostBytesMax = 253;

absl::Status BadAddress(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is not an address (host:port or unix:/path): ", why));
}

// Four decimal numbers; a name that merely starts with "127." is no loopback address.
bool IsLoopbackV4(absl::string_view host) {
  const std::vector<absl::string_view> parts = absl::StrSplit(host, '.');
  if (parts.size() != 4 || parts[0] != "127") return false;
  for (const absl::string_view part : parts) {
    int value = -1;
    if (!absl::SimpleAtoi(part, &value) || value < 0 || value > 255) return false;
  }
  return true;
}

// What gRPC takes for a host and nothing else: no scheme, path, zone or control character.
bool IsHost(const std::string& host) {
  unsigned char ipv6[sizeof(in6_addr)];
  if (absl::StrContains(host, '\0')) return false;  // where inet_pton stops reading
  if (absl::StrContains(host, ":")) return inet_pton(AF_INET6, host.c_str(), ipv6) == 1;
  bool good = host.size() <= kHostBytesMax;
  for (const char c : host) good &= absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
  return good;
}

}  // namespace

bool Address::is_loopback() const {
  return !is_unix() && (host == "localhost" || host == "::1" || IsLoopbackV4(host));
}

bool Address::is_wildcard() const { return host == "0.0.0.0" || host == "::"; }

std::string Address::ToString() const {
  if (is_unix()) return absl::StrCat("unix:", path);
  if (absl::StrContains(host, ":")) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  Address address;
  if (absl::StartsWith(text, "unix:")) {
    address.path = std::string(absl::StripPrefix(text, "unix:"));
    if (address.path.empty()) return BadAddress(text, "the path is empty");
    if (absl::StrContains(address.path, '\0')) return BadAddress(text, "a zero byte");
    if (address.path.size() > kUnixPathBytesMax) {
      return BadAddress(text, absl::StrCat("the path has ", address.path.size(), " bytes, at most ",
                                           kUnixPathBytesMax));
    }
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return BadAddress(text, "no port");
  absl::string_view host = text.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[") != absl::ConsumeSuffix(&host, "]")) {
    return BadAddress(text, "unbalanced brackets");
  }
  if (host.empty()) return BadAddress(text, "no host");
  if (!absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return BadAddress(text, "the port is not 0 to 65535");
  }
  address.host = std::string(host);
  if (!IsHost(address.host)) return BadAddress(text, "the host is no name or IP address");
  return address;
}

bool StaysOnThisMachine(const Address& address) {
  return address.is_unix() || address.is_loopback();
}

absl::StatusOr<Address> ParseAddressOption(absl::string_view option, absl::string_view text,
                                           bool encrypted) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--", option, ": ", address.status().message()));
  }
  if (!encrypted && !StaysOnThisMachine(*address)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", option, ": ", text,
                     " is not on this machine, which plaintext does not leave: give --tls-dir, or "
                     "use 127.0.0.1, [::1] or unix:/path"));
  }
  return address;
}

}  // namespace pregate
