#include "common/tls/testing/test_certs.h"

#include "absl/time/clock.h"
#include "common/base/status.h"

namespace pregate::testing {
namespace {

CertificateAuthority MakeAuthority() {
  auto made = CertificateAuthority::Make("test authority", absl::Now() - absl::Hours(48),
                                         absl::Now() + absl::Hours(48));
  PREGATE_CHECK(made.ok(), "", made.status().message());
  return *std::move(made);
}

}  // namespace

TestAuthority::TestAuthority() : authority_(MakeAuthority()) {}

TlsPem TestAuthority::Issue(Role role, const Spoil& spoil) const {
  LeafRequest request{.common_name = RoleName(role),
                      .uris = {IdentityUri(kTrustDomain, role)},
                      .hosts = {"localhost", "127.0.0.1", "::1"},
                      .not_before = absl::Now() - absl::Hours(1),
                      .not_after = absl::Now() + absl::Hours(1)};
  if (spoil) spoil(request);
  const auto issued = authority_.Issue(request);
  PREGATE_CHECK(issued.ok(), "", issued.status().message());
  return {issued->certificate, issued->key, pem()};
}

}  // namespace pregate::testing
