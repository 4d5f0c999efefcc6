// What gRPC asks of us during a handshake and before each call: roles and the access table.
#pragma once

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/support/string_ref.h>

#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "common/tls/tls_gate.h"

namespace pregate {

// gRPC's view of characters as Abseil's.

inline absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

// The access table, asked for every call that reaches a server, whichever service it names.

// Thread-safe. Calls that may not be made end with PERMISSION_DENIED before a handler sees them,
// and are logged.
class CallAuthorizer final : public grpc::AuthMetadataProcessor {
 public:
  //
  explicit CallAuthorizer(TlsGate gate) : gate_(std::move(gate)) {}

  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

 private:
  const TlsGate gate_;
};

// What gRPC asks in every handshake about the peer's certificate.

// On a server: any role of the trust domain; what it may call is asked for each call. Refusals are
// logged.
std::shared_ptr<grpc::experimental::CertificateVerifier> MakeClientVerifier(TlsGate gate,
                                                                            RoleSet clients);

// On a channel: one of `server` roles. The reason of a refusal is logged, and comes back in the
// status of calls.
std::shared_ptr<grpc::experimental::CertificateVerifier> MakeServerVerifier(TlsGate gate,
                                                                            RoleSet server);

}  // namespace pregate
