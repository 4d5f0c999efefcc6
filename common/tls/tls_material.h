// What a --tls-dir holds, parsed and checked: an own certificate with its key, and whom to trust.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/config/option_set.h"
#include "common/tls/identity.h"
#include "common/tls/openssl.h"

namespace pregate {

// Reading the small files that hold certificates and keys.

// The bytes of `path` without a byte-order mark before them, at most kTlsFileBytesMax. NOT_FOUND
// when it cannot be opened, INVALID_ARGUMENT when it is larger or empty; the message is the reason
// alone, the caller names the file. Thread-safe.
absl::StatusOr<std::string> ReadPemFile(const std::string& path);

inline constexpr char kTlsCertificateFile[] = "tls.crt";  // the own one, then intermediate ones
inline constexpr char kTlsKeyFile[] = "tls.key";
inline constexpr char kTlsAuthorityFile[] = "ca.crt";  // one or more that are trusted

struct TlsOptions {
  std::string dir;  // empty: plaintext, on this machine only
  std::string trust_domain = "pregate.internal";
};
// Declares --tls-dir and --tls-trust-domain.
void DeclareTlsOptions(OptionSet& set, TlsOptions* options);

// The three files' bytes.
struct TlsPem {
  std::string certificate, key, authority;
  bool operator==(const TlsPem&) const = default;
};
// Errors name --tls-dir and the file.
absl::StatusOr<TlsPem> ReadTlsDir(const std::string& dir);

// Immutable; shared between threads.
struct TlsMaterial {
  TlsPem pem;  // what the rest was parsed from
  X509Ptr certificate;
  std::vector<X509Ptr> intermediates;
  KeyPtr key;
  std::vector<X509Ptr> authorities;
  X509StorePtr trust;  // of the authorities
  std::string trust_domain;
  Role role = Role::kOperator;  // of `certificate`
};

// Parses and checks: the key fits the certificate, which is valid now, issued under the authority
// for servers and clients, and names a role in the trust domain. `dir` is for the errors, which
// name --tls-dir and the file at fault. Bytes may be anything.
absl::StatusOr<TlsMaterial> ParseTlsMaterial(const TlsPem& pem, const TlsOptions& options);

}  // namespace pregate
