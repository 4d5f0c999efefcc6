// Whether a certificate is to be believed, and whose it is: the same for a peer over gRPC, a peer
// over HTTPS and our own at start.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/tls/tls_material.h"

namespace pregate {

enum class PeerUse { kServer, kClient };  // what the certificate is shown as

// Chain, signatures, validity now, extended key usage. UNAUTHENTICATED with OpenSSL's own words
// ("certificate has expired") and the subject. Thread-safe.
absl::Status CheckChain(const TlsMaterial& trusting, X509* certificate,
                        const std::vector<X509Ptr>& intermediates, PeerUse use);
absl::Status CheckChain(const TlsMaterial& trusting, X509* certificate,
                        STACK_OF(X509) * intermediates, PeerUse use);

// The role in the certificate's one URI name. PERMISSION_DENIED.
absl::StatusOr<Role> RoleOf(const TlsMaterial& trusting, X509* certificate);

// Both, from the PEM that a TLS library hands out. `chain_pem` may be empty, and may begin with the
// certificate itself.
absl::StatusOr<Role> CheckPeer(const TlsMaterial& trusting, absl::string_view certificate_pem,
                               absl::string_view chain_pem, PeerUse use);

}  // namespace pregate
