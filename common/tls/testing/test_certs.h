// Certificates for tests: good ones, and ones that an attacker or a tired operator would bring.
#pragma once

#include <functional>
#include <string>

#include "common/tls/certificate_authority.h"
#include "common/tls/tls_material.h"

namespace pregate::testing {

inline constexpr char kTrustDomain[] = "pregate.internal";

// A good leaf's request; `spoil` may change it.
using Spoil = std::function<void(LeafRequest&)>;

// An authority and what it issues, in memory. Aborts where OpenSSL fails.
class TestAuthority {
 public:
  TestAuthority();

  // Valid for an hour, of `role`.
  TlsPem Issue(Role role, const Spoil& spoil = nullptr) const;
  std::string pem() const { return authority_.ToPem().certificate; }
  const CertificateAuthority& authority() const { return authority_; }

 private:
  CertificateAuthority authority_;
};

}  // namespace pregate::testing
