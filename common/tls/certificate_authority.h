// Issues certificates: a P-256 authority of our own, and leaves under it for servers and clients.
// For `pregate certs` and for tests; in Kubernetes cert-manager does this.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tls/openssl.h"

namespace pregate {

struct IssuedPem {
  std::string certificate, key;
};

// What a leaf says. DNS names and IP addresses are for clients that check host names.
struct LeafRequest {
  std::string common_name;
  std::vector<std::string> uris;
  std::vector<std::string> hosts;  // names and addresses
  absl::Time not_before, not_after;
  std::string extended_key_usage = "serverAuth,clientAuth";
};

// Immutable after it is made; thread-safe.
class CertificateAuthority {
 public:
  // A new key, self-signed.
  static absl::StatusOr<CertificateAuthority> Make(const std::string& common_name,
                                                   absl::Time not_before, absl::Time not_after);
  // INVALID_ARGUMENT when they do not parse, do not fit, or are no authority's.
  static absl::StatusOr<CertificateAuthority> Parse(absl::string_view certificate_pem,
                                                    absl::string_view key_pem);

  // A new key and a certificate for it. INVALID_ARGUMENT names a host or URI that cannot be put
  // into a certificate. Nothing else of the request is judged: tests ask for bad leaves.
  absl::StatusOr<IssuedPem> Issue(const LeafRequest& request) const;

  IssuedPem ToPem() const;
  X509* certificate() const { return certificate_.get(); }

 private:
  CertificateAuthority(X509Ptr certificate, KeyPtr key)
      : certificate_(std::move(certificate)), key_(std::move(key)) {}

  X509Ptr certificate_;
  KeyPtr key_;
};

}  // namespace pregate
