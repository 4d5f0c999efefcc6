// The access table, asked for every call that reaches a server, whichever service it names.
#pragma once

#include <grpcpp/security/auth_metadata_processor.h>

#include <utility>

#include "common/tls/tls_gate.h"

namespace pregate {

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

}  // namespace pregate
