// The access table, asked for every call that reaches a server, whichever service it names.
#pragma once

#include <grpcpp/security/auth_metadata_processor.h>

#include "common/telemetry/tls_gate.h"

namespace pregate {

// Thread-safe. Calls that may not be made end with PERMISSION_DENIED before a handler sees them,
// and are logged.
class CallAuthorizer final : public grpc::AuthMetadataProcessor {
 public:
  // `gate` outlives the server.
  explicit CallAuthorizer(const TlsGate* gate) : gate_(gate) {}

  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

 private:
  const TlsGate* const gate_;
};

}  // namespace pregate
