// What gRPC asks in every handshake about the peer's certificate.
#pragma once

#include <grpcpp/security/tls_certificate_verifier.h>

#include <memory>

#include "common/tls/tls_gate.h"

namespace pregate {

// On a server: any role of the trust domain; what it may call is asked for each call. Refusals are
// logged.
std::shared_ptr<grpc::experimental::CertificateVerifier> MakeClientVerifier(TlsGate gate,
                                                                            RoleSet clients);

// On a channel: one of `server` roles. The reason of a refusal is logged, and comes back in the
// status of calls.
std::shared_ptr<grpc::experimental::CertificateVerifier> MakeServerVerifier(TlsGate gate,
                                                                            RoleSet server);

}  // namespace pregate
